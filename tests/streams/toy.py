"""A role as small as can be: it adds up numbers by key. For tests of what carries any role."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.application import Outcome, Snapshots
from streams.chunk import Chunk, Position, Record
from streams.connection import Connection
from streams.lane_config import LaneConfig
from streams.worker import GroupConfig, RoleWorker

PARTITIONS = 2
TIMEOUT_S = 60.0


class Sums:
    """Sum and count of the numbers of each key."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[int, int]] = {}
        self._before: dict[bytes, tuple[int, int] | None] = {}

    def add(self, key: bytes, number: int) -> None:
        total, count = self.rows.get(key, (0, 0))
        self._before.setdefault(key, self.rows.get(key))
        self.rows[key] = (total + number, count + 1)

    def begin(self) -> None:
        self._before = {}

    def commit(self) -> None:
        self._before = {}

    def rollback(self) -> None:
        for key, row in self._before.items():
            if row is None:
                del self.rows[key]
            else:
                self.rows[key] = row
        self._before = {}

    def dirty_records(self) -> list[tuple[bytes, bytes | None]]:
        return [(key, b"%d %d" % self.rows[key]) for key in self._before]

    def load_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        for key, value in records:
            total, count = (value or b"0 0").split()
            self.rows[key] = (int(total), int(count))

    def snapshot(self) -> dict[str, Any]:
        return {"rows": dict(self.rows)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        self.rows = dict(snapshot["rows"])


class Adding:
    """Adds what comes, and writes one answer a record."""

    def __init__(self, answers: str) -> None:
        self.answers = answers
        self.states: dict[int, Sums] = {}

    def open(self, lane: int) -> Sums:
        return Sums()

    def opened(self, lane: int, state: Sums) -> None:
        self.states[lane] = state

    def closed(self, lane: int) -> None:
        self.states.pop(lane, None)

    def apply(
        self, lane: int, state: Sums, chunks: Sequence[Chunk]
    ) -> Outcome | Awaitable[Outcome]:
        return self._added(lane, state, chunks)

    def _added(self, lane: int, state: Sums, chunks: Sequence[Chunk]) -> Outcome:
        outcome = Outcome()
        for chunk in chunks:
            for record in chunk.records:
                state.add(record.key, int(record.value))
                outcome.add(Position(self.answers, lane), Record(record.key, record.value))
        return outcome

    def due_s(self, lane: int, state: Sums) -> float | None:
        return None

    def committed(self, lane: int, state: Sums) -> None:
        pass

    @property
    def count(self) -> int:
        """Numbers added in the lanes that are here."""
        return sum(n for state in self.states.values() for _, n in state.rows.values())


class Patient(Adding):
    """Adds, answers nothing, and lets rounds wait for a commit together."""

    patience_s = 0.5

    def __init__(self, answers: str) -> None:
        super().__init__(answers)
        self.waiting_since: dict[int, float] = {}

    def apply(self, lane: int, state: Sums, chunks: Sequence[Chunk]) -> Outcome:
        self._added(lane, state, chunks)
        self.waiting_since.setdefault(lane, time.monotonic())
        return Outcome(may_wait=self.due_s(lane, state) != 0.0)

    def due_s(self, lane: int, state: Sums) -> float | None:
        since = self.waiting_since.get(lane)
        return None if since is None else max(0.0, since + self.patience_s - time.monotonic())

    def committed(self, lane: int, state: Sums) -> None:
        self.waiting_since.pop(lane, None)


class Later(Adding):
    """Adds, and says a little later what it writes."""

    async def _outcome(self, outcome: Outcome) -> Outcome:
        await asyncio.sleep(0.001)
        outcome.seconds = 0.0
        return outcome

    def apply(
        self, lane: int, state: Sums, chunks: Sequence[Chunk]
    ) -> Outcome | Awaitable[Outcome]:
        return self._outcome(self._added(lane, state, chunks))


class Toy:
    """Topics of its own on a broker, and workers of the role that adds."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.direct = False  # how its workers write
        self.name = f"toy{uuid.uuid4().hex[:8]}"
        self.numbers, self.answers = f"{self.name}.numbers", f"{self.name}.answers"
        self.state = f"{self.name}.state"

    async def create(self) -> "Toy":
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            names = (self.numbers, self.answers, self.state)
            await client.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        finally:
            await client.close()
        return self

    @asynccontextmanager
    async def worker(
        self,
        snapshots: Snapshots | None = None,
        kind: type[Adding] = Adding,
        group: str = "",
        watchdog_s: float = 60.0,
        **lane: Any,
    ) -> AsyncIterator[tuple[RoleWorker[Sums], Adding]]:
        """A worker that is ready, in this process."""
        application = kind(self.answers)
        config = LaneConfig(
            Connection(self.bootstrap, direct_transactions=self.direct),
            group or self.name,
            (self.numbers,),
            self.state,
            **lane,
        )
        options = GroupConfig(data_dir=self.folder, watchdog_s=watchdog_s)
        worker = RoleWorker(config, options, application, snapshots)
        await worker.start()
        try:
            await until(lambda: worker.ready and len(worker.lanes) == PARTITIONS)
            yield worker, application
        finally:
            await worker.stop()

    async def produce(self, count: int, first: int = 0) -> None:
        """Numbers from `first` on, by turns to ten keys."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            for number in range(first, first + count):
                await producer.send(self.numbers, b"%d" % number, key=b"k%d" % (number % 10))


def expected(count: int) -> dict[bytes, tuple[int, int]]:
    """The rows that the numbers below `count` add up to."""
    sums = Sums()
    for number in range(count):
        sums.add(b"k%d" % (number % 10), number)
    return sums.rows


def together(application: Adding) -> dict[bytes, tuple[int, int]]:
    """The rows of all lanes here."""
    return {key: row for state in application.states.values() for key, row in state.rows.items()}


async def until(look: Any, timeout_s: float = TIMEOUT_S) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(timeout_s):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
