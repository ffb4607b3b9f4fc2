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
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import structlog
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streams import state_log
from streams.application import Application, Outcome, S, Snapshots
from streams.chunk import Chunk, Position, Record
from streams.compute import Compute
from streams.connection import Connection
from streams.local_snapshot import LocalSnapshot, Mark
from streams.state_log import Birth
from streams.totals import Totals
from streams.transaction import LaneFencedError, LaneProducer, TransactionUncertainError
from streams.turns import Turns
from streams.waiting import Waiting

log = structlog.get_logger(__name__)

RETRY_S = 0.5
ROUND_RECORDS_MIN = 50
FEW_RECORDS = 10  # a round of fewer takes about as long
BRIEF_S = 0.06  # a round that takes longer is not for the event loop


class Changes(enum.Enum):
    """What has become of the changes of the newest round."""

    NONE = enum.auto()  # the state has them, or they were taken back
    OPEN = enum.auto()  # they can be taken back
    KEPT = enum.auto()  # their transaction is committed: the next round says so to the state


@dataclass(frozen=True)
class LaneConfig:
    """What the lanes of one role have in common."""

    connection: Connection
    group_id: str
    topics: tuple[str, ...]
    state_topic: str | None
    urgent: frozenset[str] = frozenset()  # of the topics: see `Waiting`
    notes_positions: bool = False  # in the state's log, for when the group's are forgotten
    snapshot_dir: Path | None = None
    snapshot_interval_s: float = 60.0
    transaction_timeout_ms: int = 10_000
    round_records_max: int = 4000
    totals: Totals = field(default_factory=Totals, compare=False)
    rounds_per_s_max: float = 200.0  # of all lanes together: each is a transaction's CPU
    compute: Compute = field(default_factory=Compute, compare=False)  # where states are touched


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
        self._held: dict[Position, int] = {}  # offsets of applied rounds that wait for a commit
        self._held_records = 0
        self._state: S | None = None
        self._changes = Changes.NONE
        self._producer: LaneProducer | None = None
        self._waiting = Waiting(config.urgent)
        self._arrived = asyncio.Event()
        self._resting = asyncio.Event()
        self._stopping = False
        self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._state_end = 0
        self._birth: Birth | None = None
        self._noted: dict[str, int] = {}  # positions as the state's log has them
        self._snapshot = self._own_snapshot(snapshots)

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

    async def close(self, timeout_s: float = 8.0) -> None:
        """End: finish the running round, write a snapshot, give the producer up."""
        self._stopping = True
        self._forget_waiting()
        if self._task is None:
            return
        if not self.ready.is_set():
            self._task.cancel()
        _, late = await asyncio.wait([self._task], timeout=timeout_s)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task])

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
            if self._snapshot is not None:
                await self._snapshot.written()
            await self._snapshot_in_background()
        finally:
            if self._state is not None:
                state, held = self._state, bool(self._held)
                await (self._take_back(state) if held else self._settled(state))
            self._resting.set()
            self.ready.clear()
            self._application.closed(self.number)
            if self._snapshot is not None:
                await self._snapshot.written()
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
            except (KafkaError, OSError) as error:
                log.warning("lane.waits_for_broker", lane=self.number, error=repr(error))
                await asyncio.sleep(RETRY_S)
        assert self._state is not None
        self._config.totals.spent("restore", time.monotonic() - begun)
        self._application.opened(self.number, self._state)
        self.progress_at = time.monotonic()
        self.ready.set()

    async def _take_over(self) -> None:
        """A producer of our own: from here on nobody before us can write."""
        if self._producer is not None:
            with contextlib.suppress(KafkaError, OSError):
                await self._producer.stop()
        config = self._config
        self._producer = LaneProducer(
            config.connection,
            f"{config.group_id}-{self.number}",
            timeout_ms=config.transaction_timeout_ms,
        )
        await self._producer.start()

    async def _restore(self) -> None:
        config, compute = self._config, self._config.compute
        open_empty = functools.partial(self._application.open, self.number)
        state = await compute.run(open_empty)
        if config.state_topic is not None:
            source = Position(config.state_topic, self.number)
            mark = await self._restore_snapshot(source, state)
            if mark is None:
                state = await compute.run(open_empty)
            start = 0 if mark is None else mark.state_end
            self._birth = None if mark is None else mark.birth
            self._noted = {} if mark is None else mark.positions

            async def load(records: list[ConsumerRecord]) -> None:
                rows = [(record.key, record.value) for record in records]
                await compute.run(lambda: state.load_records(rows))

            def progress(done: int, total: int) -> None:
                self.restored = (done, total)
                self.progress_at = time.monotonic()

            restored = await state_log.restore(
                config.connection, source, load, start=start, progress=progress
            )
            self._state_end = restored.end
            self._birth = restored.birth or self._birth
            self._noted = restored.positions or self._noted
        self._state, self._changes = state, Changes.NONE
        self.positions = await self._committed()

    async def _restore_snapshot(self, source: Position, state: S) -> Mark | None:
        if self._snapshot is None:
            return None

        async def holds(mark: Mark) -> bool:
            return await state_log.holds(
                self._config.connection, source, mark.birth, mark.state_end
            )

        return await self._snapshot.restore(state, holds)

    async def _committed(self) -> dict[Position, int]:
        sources = [Position(topic, self.number) for topic in self._config.topics]
        return await state_log.committed(
            self._config.connection, self._config.group_id, sources, self._noted
        )

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
        state_at = Position(config.state_topic or "", self.number)
        try:
            applied = await self._apply(state, chunks, due)
            if applied is None:
                return
            outcome, rows, seconds = applied
            records = sum(len(chunk.records) for chunk in chunks)
            offsets = {chunk.source: chunk.end for chunk in chunks}
            self._took(records, seconds)
            totals.spent("apply", seconds)
            if outcome.may_wait:
                self._hold(offsets, records)
                return
            offsets = {**self._held, **offsets}
            name = self._complete(rows, offsets)
            writes = {**outcome.writes, state_at: rows} if rows else outcome.writes
            if writes or offsets:
                begun = time.monotonic()
                ends = await self._producer.commit(writes, offsets, config.group_id)
                self._state_end = ends.get(state_at, self._state_end)
                if name:
                    self._birth = Birth(self._state_end - 1, name)
                totals.committed(records + self._held_records, time.monotonic() - begun)
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
        self._held.clear()
        self._held_records = 0
        self._applied(offsets, records)
        self.rounds += 1
        if outcome.forgets and self._snapshot is not None:
            self._snapshot.hurry()
        self._application.committed(self.number, state)

    def _complete(self, rows: list[Record], offsets: Mapping[Position, int]) -> str:
        """Add what the lane itself notes in its state's log; the log's name where it is born."""
        if offsets and self._config.notes_positions:
            rows.append(state_log.positions_record({**self.positions, **offsets}))
        if not rows or self._birth is not None or self._snapshot is None:
            return ""
        name = uuid.uuid4().hex
        rows.append(Record(state_log.BIRTH_KEY, name.encode()))  # the last of them
        return name

    def _hold(self, offsets: Mapping[Position, int], records: int) -> None:
        """Leave a round to a later commit: until then it can be taken back with the others."""
        self._held.update(offsets)
        self._held_records += records
        self._applied(offsets, records)

    def _applied(self, offsets: Mapping[Position, int], records: int) -> None:
        self.positions.update(offsets)
        self.records += records
        self.progress_at = time.monotonic()

    async def _take_back(self, state: S) -> None:
        """Undo this round, and those that waited for its commit: they will be read again."""
        self._held.clear()
        self._held_records = 0

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
        self._state = None
        self._waiting.put_back(chunks)
        await asyncio.sleep(RETRY_S)

    # -- its local snapshot

    def _own_snapshot(self, snapshots: Snapshots | None) -> LocalSnapshot | None:
        config = self._config
        if snapshots is None or config.snapshot_dir is None or config.state_topic is None:
            return None
        return LocalSnapshot(
            snapshots,
            config.snapshot_dir / f"{config.state_topic}-{self.number}.snapshot",
            config.snapshot_interval_s,
            config.compute,
            self._arrived.set,
        )

    def _snapshot_due_s(self) -> float | None:
        """In how many seconds to snapshot; None where nothing has changed since, or not now."""
        if self._snapshot is None or self._birth is None or self._state is None:
            return None
        if self._held:  # a copy would hold what may yet be taken back
            return None
        return self._snapshot.due_s(self._state_end)

    async def _snapshot_in_background(self) -> None:
        state, snapshot, birth = self._state, self._snapshot, self._birth
        if self._snapshot_due_s() is None or state is None or snapshot is None or birth is None:
            return
        noted = {source.topic: offset for source, offset in self.positions.items()}

        def copy() -> dict[str, Any]:
            self._settle(state)
            return state.snapshot()

        await snapshot.take(copy, Mark(birth, self._state_end, noted))


async def _nobody_knows() -> bool:
    """Without a group to ask, being fenced is final."""
    return False
