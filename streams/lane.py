"""A lane: partition p of a role's topics, with one owner, one state and one producer.

The order on opening is the guarantee: take the transactional id over (that fences the owner before
and ends its open transaction), then restore the state to the end of its log, then read the
committed offsets, then start. Each round after that is one transaction.
"""

import asyncio
import contextlib
import enum
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic

import structlog
from aiokafka.errors import KafkaError

from streams.application import Application, Outcome, S, Snapshots
from streams.chunk import Chunk, Position, Record
from streams.held import Held
from streams.lane_config import LaneConfig
from streams.lane_log import LaneLog
from streams.transaction import (
    NOT_ALLOWED,
    LaneFencedError,
    LaneProducer,
    LaneRefusedError,
    TransactionUncertainError,
)
from streams.turns import Turns
from streams.waiting import Waiting

log = structlog.get_logger(__name__)

RETRY_S = 0.5
ROUND_RECORDS_MIN = 50
FEW_RECORDS = 10  # a round of fewer takes about as long
REOPENINGS_MAX = 3  # in which opening anew counts as progress
BRIEF_S = 0.06  # a round that takes longer is not for the event loop


class Changes(enum.Enum):
    """What has become of the changes of the newest round."""

    NONE = enum.auto()  # the state has them, or they were taken back
    OPEN = enum.auto()  # they can be taken back
    KEPT = enum.auto()  # their transaction is committed: the next round says so to the state


class Lane(Generic[S]):
    """One lane while this worker owns it."""

    def __init__(
        self,
        number: int,
        config: LaneConfig,
        application: Application[S],
        snapshots: Snapshots | None = None,
        still_ours: Callable[[], Awaitable[bool]] | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self.restored = (0, 0)
        self.rounds = 0
        self.records = 0
        self.progress_at = time.monotonic()
        self.positions: dict[Position, int] = {}
        self._config = config
        self._application = application
        self._still_ours = still_ours or _nobody_knows
        self._turns = turns or Turns()
        self._record_s = 0.0003  # what a record costs lately
        self._last_s = 0.0  # what the last round took
        self._held = Held()
        self._reopenings = 0  # since the last commit
        self._state: S | None = None
        self._changes = Changes.NONE
        self._producer: LaneProducer | None = None
        self._waiting = Waiting(config.urgent)
        self._arrived = asyncio.Event()
        self._resting = asyncio.Event()
        self._stopping = False
        self._lost = False
        self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._log: LaneLog[S] = LaneLog(number, config, snapshots, self._arrived.set)

    # -- what the owner of the assignment says

    def start(self) -> None:
        """Open in the background; `ready` is set when the state is restored."""
        self._task = asyncio.create_task(self._run(), name=f"lane-{self.number}")

    @property
    def task(self) -> "asyncio.Task[None]":
        """The lane's life; it ends with LaneFencedError when another owner has taken over."""
        assert self._task is not None, "start first"
        return self._task

    def put(self, chunk: Chunk) -> None:
        """Queue a chunk."""
        if self._resting.is_set() and not self._waiting:
            self.progress_at = time.monotonic()  # a silence is no stall
        self._waiting.put(chunk)
        if chunk.source.topic in self._config.urgent:
            self._turns.hurry()
        self._arrived.set()

    @property
    def waiting_records(self) -> int:
        """Records that were fetched and not yet applied."""
        return self._waiting.records

    async def quiesce(self) -> None:
        """Forget what waits and let the running round end: the partitions are about to move."""
        self._paused = True
        if self._held:
            self._resting.clear()  # they are committed first
        self._forget_waiting()
        if self._task is not None and not self._task.done() and self.ready.is_set():
            await self._resting.wait()

    def resume(self) -> None:
        """Go on: the partitions are still ours."""
        self._paused = False
        self._arrived.set()

    async def close(self, timeout_s: float = 8.0, *, lost: bool = False) -> None:
        """End: finish the running round, write a snapshot, give the producer up.

        One that is `lost` to another owner leaves no snapshot here: who is forgotten there stayed.
        """
        self._stopping, self._lost = True, lost
        self._forget_waiting()
        if self._task is None:
            return
        if not self.ready.is_set():
            self._task.cancel()
        _, late = await asyncio.wait([self._task], timeout=timeout_s)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task])
        if lost:
            self._log.remove_snapshot()

    def _forget_waiting(self) -> None:
        self._waiting.forget()
        self._arrived.set()

    # -- its life

    async def _run(self) -> None:
        try:
            while not self._stopping:
                if self._state is None:
                    await self._open_until_done()
                await self._round()
            if self._held and self._state is not None:
                await self._apply_and_commit(due=True)
            await self._log.snapshot_written()
            if not self._lost:
                await self._snapshot_in_background()
        finally:
            if self._state is not None:
                state, held = self._state, bool(self._held)
                await (self._take_back(state) if held else self._settled(state))
            self._resting.set()
            self.ready.clear()
            self._application.closed(self.number)
            await self._log.snapshot_written()
            if self._producer is not None:
                with contextlib.suppress(KafkaError, OSError):
                    await self._producer.stop()

    async def _open_until_done(self) -> None:
        """Open, however long the broker takes to answer; the watchdog bounds the patience."""
        begun = time.monotonic()
        while True:
            while self._paused and not self._stopping:  # who knows whether the lane stays ours
                self._arrived.clear()
                await self._arrived.wait()
            try:
                await self._take_over()
                await self._restore()
                break
            except NOT_ALLOWED as error:
                raise LaneRefusedError(
                    f"the broker does not allow what {self._transactional_id} does (write with it "
                    f"as transactional id, read {self._config.state_topic or 'offsets'}): {error!r}"
                ) from error
            except (KafkaError, OSError) as error:
                log.warning("lane.waits_for_broker", lane=self.number, error=repr(error))
                await asyncio.sleep(RETRY_S)
        assert self._state is not None
        self._config.totals.spent("restore", time.monotonic() - begun)
        self._application.opened(self.number, self._state)
        self._held.read_again(self.positions)
        self._moves()
        self.ready.set()

    @property
    def _transactional_id(self) -> str:
        return f"{self._config.group_id}-{self.number}"

    async def _take_over(self) -> None:
        """A producer of our own: from here on nobody before us can write."""
        if self._producer is not None:
            with contextlib.suppress(KafkaError, OSError):
                await self._producer.stop()
        config = self._config
        self._producer = LaneProducer(
            config.connection,
            self._transactional_id,
            timeout_ms=config.transaction_timeout_ms,
        )
        await self._producer.start()

    async def _restore(self) -> None:
        def progress(done: int, total: int) -> None:
            self.restored = (done, total)
            self._moves()

        empty = functools.partial(self._application.open, self.number)
        self._state, self._changes = await self._log.restore(empty, progress), Changes.NONE
        self.positions = await self._log.committed()

    async def _round(self) -> None:
        due = await self._wait()
        async with self._turns.turn(brief=self._brief):
            if self._held if self._paused else due or self._waiting:
                await self._apply_and_commit(due=due)
        if self._snapshot_due_s() == 0.0:
            await self._snapshot_in_background()

    async def _wait(self) -> bool:
        """Until something waits and a round may start; True where one is due without."""
        assert self._state is not None
        self._resting.set()
        due = False
        idle = not (self._held if self._paused else self._waiting)
        if idle and not self._stopping:
            self._arrived.clear()
            round_s = None if self._paused else self._application.due_s(self.number, self._state)
            snapshot_s = None if self._paused else self._snapshot_due_s()
            first_s = min((s for s in (round_s, snapshot_s) if s is not None), default=None)
            try:
                await asyncio.wait_for(self._arrived.wait(), first_s)
            except TimeoutError:
                due = first_s == round_s
        if (due or self._waiting) and not self._stopping:
            await self._turns.start()
        return due

    @property
    def _room(self) -> int:
        """Records that a round may have."""
        in_time = int(self._turns.round_s / self._record_s)
        return min(self._config.round_records_max, max(ROUND_RECORDS_MIN, in_time))

    def _took(self, records: int, seconds: float) -> None:
        """Remember how long a round takes lately, and what a record costs."""
        self._last_s = seconds
        if records:
            self._record_s += 0.2 * (seconds / max(records, FEW_RECORDS) - self._record_s)

    @property
    def _brief(self) -> bool:
        """Whether the event loop may stand still for the next round: quicker than a thread."""
        expected_s = self._record_s * max(min(self._waiting.records, self._room), FEW_RECORDS)
        return max(expected_s, self._last_s) < BRIEF_S

    async def _apply_and_commit(self, *, due: bool) -> None:
        chunks: list[Chunk] = []
        self._resting.clear()
        try:
            await self._transaction(chunks, due)
        finally:
            self._resting.set()
            self._waiting.let_go()
            for chunk in chunks:
                chunk.release()

    async def _transaction(self, chunks: list[Chunk], due: bool) -> None:
        """One round; what it takes is put into `chunks`."""
        state = self._state
        assert self._producer is not None
        assert state is not None
        config, totals = self._config, self._config.totals
        try:
            applied = await self._apply(state, chunks, due)
            if applied is None:
                return
            outcome, rows, seconds = applied
            records = sum(len(chunk.records) for chunk in chunks)
            offsets = {chunk.source: chunk.end for chunk in chunks}
            self._took(records, seconds)
            totals.spent("apply", seconds)
            if outcome.may_wait:  # for a later commit: until then it can be taken back
                self._held.add(chunks)
                self._applied(offsets, records)
                return
            offsets = {**self._held.offsets, **offsets}
            writes, name = self._log.complete(outcome.writes, rows, offsets, self.positions)
            if writes or offsets:
                begun = time.monotonic()
                ends = await self._producer.commit(writes, offsets, config.group_id)
                self._log.written(ends, name)
                totals.committed(records + self._held.records, time.monotonic() - begun)
        except (TransactionUncertainError, LaneFencedError) as error:
            await self._take_back(state)
            # A transaction that timed out looks fenced too: ask the group whose lane it is.
            if isinstance(error, LaneFencedError) and not await self._still_ours():
                raise
            log.warning("transaction.uncertain", lane=self.number, error=str(error))
            totals.transactions["uncertain"] += 1
            await self._reopen_with(chunks)
            return
        except BaseException:
            await self._take_back(state)
            raise
        self._changes = Changes.KEPT
        if not (writes or offsets):
            return
        self._held.kept()
        self._reopenings = 0
        self._applied(offsets, records)
        self.rounds += 1
        if outcome.forgets:
            self._log.hurry_snapshot()
        self._application.committed(self.number, state)

    def _applied(self, offsets: Mapping[Position, int], records: int) -> None:
        self.positions.update(offsets)
        self.records += records
        self._moves()

    def _moves(self) -> None:
        """This is progress, unless the lane opens again and again, and commits nothing."""
        if self._reopenings <= REOPENINGS_MAX:
            self.progress_at = time.monotonic()

    async def _take_back(self, state: S) -> None:
        """Undo this round, and those that waited for its commit: they will be read again."""
        self._held.take_back()

        def undo() -> None:
            self._settle(state)
            if self._changes is Changes.OPEN:
                state.rollback()
                self._changes = Changes.NONE

        await self._config.compute.run(undo)

    async def _settled(self, state: S) -> None:
        await self._config.compute.run(functools.partial(self._settle, state))

    def _settle(self, state: S) -> None:
        """What the newest transaction kept is part of the state; on the thread that touches it."""
        if self._changes is Changes.KEPT:
            state.commit()
            self._changes = Changes.NONE

    async def _apply(
        self, state: S, chunks: list[Chunk], due: bool
    ) -> tuple[Outcome, list[Record], float] | None:
        """What the round writes, the rows of the state it changed, and the seconds it took.

        It takes what waits when its work begins, not when that was handed in. None: nothing to do.
        """
        begun = time.monotonic()

        def work() -> tuple[Outcome | Awaitable[Outcome], list[Record], float] | None:
            begun = time.monotonic()  # waiting for other lanes' rounds is no work
            if not (self._paused or self._stopping):
                chunks.extend(self._waiting.take(self._room, self.positions))
            if not (chunks or (self._held if self._paused else due)):
                return None
            if not self._held:
                self._settle(state)
                state.begin()
                self._changes = Changes.OPEN
            outcome = self._application.apply(self.number, state, chunks)
            rows: list[Record] = []
            if isinstance(outcome, Outcome):
                outcome.may_wait &= bool(chunks) and not outcome.writes
                rows = [] if outcome.may_wait else self._changed_rows(state)
            return outcome, rows, time.monotonic() - begun

        applied = await self._config.compute.run(work, brief=self._brief)
        if applied is None:
            return None
        outcome, rows, seconds = applied
        if inspect.isawaitable(outcome):  # it works elsewhere, or with other lanes
            outcome, known = await outcome, seconds
            changed = functools.partial(self._changed_rows, state)
            rows = await self._config.compute.run(changed, brief=True)
            seconds = time.monotonic() - begun
            if outcome.seconds is not None:
                seconds = known + outcome.seconds
        return outcome, rows, seconds

    def _changed_rows(self, state: S) -> list[Record]:
        if self._config.state_topic is None:
            return []
        return [Record(key, value) for key, value in state.dirty_records()]

    async def _reopen_with(self, chunks: Sequence[Chunk]) -> None:
        """Open anew: that ends the uncertain transaction, and reads back what it came to.

        Committed offsets alone would not do: while we waited another owner may have come and gone,
        and our state would lack what it did. The pause gives the group time to say that it has one.
        """
        self.ready.clear()
        self._reopenings += 1
        self._moves()
        self._state = None
        self._waiting.put_back(chunks)
        await asyncio.sleep(RETRY_S)

    # -- its local snapshot

    def _snapshot_due_s(self) -> float | None:
        """In how many seconds to snapshot; None where nothing has changed since, or not now."""
        if self._state is None or self._held:  # a copy would hold what may yet be taken back
            return None
        return self._log.snapshot_due_s()

    async def _snapshot_in_background(self) -> None:
        state = self._state
        if self._snapshot_due_s() is None or state is None:
            return

        def copy() -> dict[str, Any]:
            self._settle(state)
            return state.snapshot()

        await self._log.take_snapshot(copy, self.positions)


async def _nobody_knows() -> bool:
    """Without a group to ask, being fenced is final."""
    return False
