"""A Faust transport whose consumer hands over one event a partition and fetch.

Stock Faust moves record by record, at 160 to 200 us of CPU each before any work is done; here a
`Chunk` is the value of one Faust event. Registered as `chunks://` by the entry-point group
`faust.transports`. Offsets are never committed from here: they are part of each lane's transaction.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import structlog
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.chunk import Chunk, Position
from streams.loop_consumer import LoopConsumer

log = structlog.get_logger(__name__)

CHUNK_RECORDS_MAX = 4000
WINDOW_BYTES = 12 << 20  # of one partition under way at once; the rest waits in the fetcher
RECORD_BYTES = 1_000  # what a record takes here beside its value
POLL_S = 0.5
# An answer is handed over in so many tasks: each begins a turn of the loop, in which lanes work.
HANDINGS_MAX = 6
BUSY_ASK_S_MIN = 0.005
BUSY_CHUNKS_PER_S = 1600  # of all partitions whose lanes are at work: each chunk has its price
BUSY_POLL_S_MIN = 0.005  # the idle are not asked for less: a question has its price, too


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Emits chunks. `expected` is the offset after the last record handed over, per partition.

    It is empty from a revocation until the seek that follows it: nothing is fetched without.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected: dict[TP, int] = {}
        self._under_way: Counter[TP] = Counter()  # bytes
        self._ask_busy_at = 0.0
        self._seeks = 0
        self._rewinds = 0
        self._taken = 0

    def _new_consumer_thread(self) -> LoopConsumer:
        return LoopConsumer(self, loop=self.loop, beacon=self.beacon)

    @property
    def member_id(self) -> str:
        """The name that the group knows us by."""
        return str(self._thread.member_id)

    async def is_member(self) -> bool:
        """Whether the group still counts us in."""
        member: bool = await self._thread.is_member()
        return member

    def _new_offset(self, tp: TP) -> int | None:
        """Nothing to commit: a lane commits its offsets with what they caused."""
        return None

    async def perform_seek(self) -> None:
        """Go back to what is committed; without a commit, to the start of the log."""
        await super().perform_seek()
        self._seeks += 1
        self._under_way.clear()
        assigned = self.assignment()
        offsets = {tp: self._read_offset[tp] for tp in assigned}
        new = [tp for tp, offset in offsets.items() if offset is None]
        if new:
            for tp, offset in (await self.earliest_offsets(*new)).items():
                offsets[ensure_TP(tp)] = offset or 0
                await self.seek(ensure_TP(tp), offset or 0)
        self._expected = {tp: int(offset or 0) for tp, offset in offsets.items()}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Whatever is under way is stale from here on."""
        self._expected.clear()
        await super().on_partitions_revoked(revoked)

    def lag_records(self) -> int:
        """Records that lie in our partitions and were not fetched yet, as the last fetch told."""
        return sum(max(0, end - position) for position, end in self._reached().values())

    def _reached(self) -> dict[TP, tuple[int, int]]:
        """For each partition how far the client has read, and its end as the last fetch told."""
        consumer = self._thread._consumer if self._thread is not None else None
        subscription = consumer._subscription.subscription if consumer is not None else None
        if subscription is None or subscription.assignment is None:
            return {}
        reached = {}
        for tp in subscription.assignment.tps:
            state = subscription.assignment.state_value(tp)
            end = state.highwater if state.lso is None else state.lso
            if state.has_valid_position and end is not None:
                reached[tp] = int(state.position), int(end)
        return reached

    def rewind(self, tp: TP, offset: int) -> None:
        """Read a partition again from `offset`: its lane has not seen what lies there."""
        if tp in self._expected:
            log.warning("transport.rewinds", topic=tp.topic, partition=tp.partition, offset=offset)
            self._expected[tp] = offset
            self._rewinds += 1
            self._taken = -1

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._hand_over_fetched()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _hand_over_fetched(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        active = self._get_active_partitions()
        if not self._expected.keys() >= active:  # Faust's own seek ran out of time
            await self.perform_seek()
            return
        free, wait_s = self._free(active)
        to_busy = any(self._under_way[tp] for tp in free)
        if not free:
            await self.sleep(min(wait_s, 0.1))
            return
        seeks, rewinds = self._seeks, self._rewinds
        number, fetched = await self._thread.fetch(free, wait_s, self._taken, dict(self._expected))
        if seeks != self._seeks or rewinds != self._rewinds or not self.flow_active:
            return  # the partitions moved while we waited: what was fetched is stale
        self._taken = number
        if fetched and to_busy:
            busy = sum(held > 0 for held in self._under_way.values())
            pause_s = max(BUSY_ASK_S_MIN, max(busy, len(fetched)) / BUSY_CHUNKS_PER_S)
            self._ask_busy_at = time.monotonic() + pause_s
        chunks = self._chunks_of_all(fetched)
        some = -(-len(chunks) // HANDINGS_MAX)
        for first in range(0, len(chunks), some or 1):
            handing = self._hand_over(chunks[first : first + some], seeks, rewinds)
            await self.wait_first(handing, self.suspend_flow)
        await self.sleep(0)

    async def _hand_over(
        self, chunks: list[tuple[TP, Chunk, int]], seeks: int, rewinds: int
    ) -> None:  # fmt: skip
        """Hand over some chunks of an answer, unless partitions moved meanwhile."""
        for tp, chunk, held in chunks:
            if tp not in self._expected or seeks != self._seeks or not self.flow_active:
                return
            if rewinds != self._rewinds:  # what follows in this answer would hide a gap
                return
            self._under_way[tp] += held
            self._expected[tp] = chunk.end
            self._read_offset[tp] = chunk.end
            await self.callback(self._message(tp, chunk))

    def _free(self, active: set[TP]) -> tuple[set[TP], float]:
        """Whom to ask, and for how long: the idle at any time, the busy all together, in turns."""
        left_s = self._ask_busy_at - time.monotonic()
        window = WINDOW_BYTES if left_s <= 0 else 1
        free = {tp for tp in active if self._under_way[tp] < window}
        if len(free) == len(active):
            return free, POLL_S
        return free, max(left_s, BUSY_POLL_S_MIN)

    def _chunks_of_all(self, fetched: dict[Any, list[Any]]) -> list[tuple[TP, Chunk, int]]:
        """An answer in chunks, each with its partition and the bytes that it holds till its end."""
        reached = self._reached() if fetched else {}
        chunks = []
        for raw_tp, records in fetched.items():
            tp = ensure_TP(raw_tp)
            if tp in self._expected:
                end = reached[raw_tp][1] if raw_tp in reached else 0
                chunks += [(tp, *each) for each in self._chunks(tp, records, end)]
        return chunks

    def _chunks(self, tp: TP, records: list[Any], end: int) -> list[tuple[Chunk, int]]:
        """Records in chunks, with the bytes that each holds until its round ends.

        `end` is that of the partition.
        """
        start = self._expected[tp]
        records = [r for r in records if r.offset >= start]
        chunks = []
        for first in range(0, len(records), CHUNK_RECORDS_MAX):
            part = records[first : first + CHUNK_RECORDS_MAX]
            held = _bytes(part)
            place = _Place(self, tp, self._seeks, held)
            source = Position(tp.topic, tp.partition)
            chunk = Chunk(source, start, part, place.release, place.rewind)
            chunk.behind = max(0, end - chunk.end)
            chunks.append((chunk, held))
            start = chunk.end
        return chunks

    def _message(self, tp: TP, chunk: Chunk) -> ConsumerMessage:
        last = chunk.records[-1]
        return ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
            (), b"", chunk, None, 0, 0, tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip


def _bytes(records: list[Any]) -> int:
    """What records take until their round ends, about."""
    return sum(len(record.value or b"") for record in records) + RECORD_BYTES * len(records)


class _Place:
    """A chunk's place in its partition's window: freed once, unless a seek freed them all."""

    __slots__ = ("_bytes", "_consumer", "_held", "_seeks", "_tp")

    def __init__(self, consumer: Consumer, tp: TP, seeks: int, bytes_: int) -> None:
        self._consumer = consumer
        self._tp = tp
        self._seeks = seeks
        self._bytes = bytes_
        self._held = True

    def release(self) -> None:
        if self._held and self._consumer._seeks == self._seeks:
            self._consumer._under_way[self._tp] -= self._bytes
        self._held = False

    def rewind(self, offset: int) -> None:
        if self._consumer._seeks == self._seeks:
            self._consumer.rewind(self._tp, offset)


class Transport(driver.Transport):  # type: ignore[misc]
    """The transport behind `chunks://host:port`."""

    Consumer = Consumer
