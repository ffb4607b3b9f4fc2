"""A shop under test: its topics, its traffic, its workers, and the reader of its lists."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from recsys import conservation
from recsys.conservation import Account
from recsys.soak import pictures, reference
from recsys.soak.traffic import Feed, Traffic
from recsys.soak.workers import SoakError, Supervisor, WorkerProcess
from streams import admin, state_log, topics
from streams.chunk import Position
from streams.connection import Connection
from streams.events import RankedList

PARTITIONS = 4
POLL_S = 0.1
SETTLE_TIMEOUT_S = 180.0
ROLE_TOPICS = (
    ("behaviour", topics.BEHAVIOUR),
    ("behaviour", topics.REQUESTS),
    ("behaviour", topics.IMAGE_EMBEDDINGS),
    ("items", topics.ITEM_UPDATES),
)


class ListReader:
    """Reads ranked lists as they become readable, and notes when."""

    def __init__(self, connection: Connection, prefix: str, partitions: int) -> None:
        self.arrived: dict[tuple[int, int], float] = {}  # by the triggering event's place
        self.ahead_s = 0.0  # the newest list's time of production, before the true time
        self._connection = connection
        self._topic = topics.RECOMMENDATIONS.name(prefix)
        self._partitions = partitions

    async def run(self) -> None:
        """Read until cancelled, through whatever happens to the broker."""
        decode = msgspec.json.Decoder(RankedList).decode
        consumer = AIOKafkaConsumer(
            **self._connection.options(),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            retry_backoff_ms=50,
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self._topic, p) for p in range(self._partitions)])
            while True:
                with suppress(KafkaError):
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        now = time.monotonic()
                        for record in records:
                            ranked = decode(record.value)
                            trigger, produced_s = ranked.trigger, ranked.produced_time / 1000
                            self.ahead_s = produced_s - time.time()
                            if trigger.kind == "event":
                                self.arrived[trigger.partition, trigger.offset] = now
        finally:
            await consumer.stop()


class Shop:
    """Opens with topics and traffic; `workers` are added and started by who uses it."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        folder: Path,
        *,
        seed: int = 1,
        partitions: int = PARTITIONS,
        replication: int = 1,
        per_s: float = 20.0,
    ) -> None:
        self.connection = Connection(bootstrap)
        self.prefix = prefix
        self.partitions = partitions
        self.replication = replication
        settings = {
            "BROKER": bootstrap,
            "PREFIX": prefix,
            "APPLICATION": prefix,
            "PARTITIONS": str(partitions),
            "REPLICATION": str(replication),
            "WORKER__SNAPSHOT_INTERVAL_S": "1",
            "WORKER__CHUNK_EVENTS_MAX": "50",
        }
        self.supervisor = Supervisor(settings, folder)
        self.feed = Feed(self.connection, prefix, Traffic(seed, partitions), per_s)
        self.lists = ListReader(self.connection, prefix, partitions)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Shop":
        await self.create_topics()
        await self._stack.enter_async_context(self.supervisor)
        reading = asyncio.create_task(self.lists.run())
        self._stack.push_async_callback(_ended, reading)
        self.feed.start()
        self._stack.push_async_callback(self.feed.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def create_topics(self) -> None:
        """As `recsys topics create`."""
        wanted = admin.wanted_topics(self.prefix, self.partitions, 1, self.replication)
        await admin.create_topics(self.connection, wanted)
        names = [each.name for each in wanted]
        while len(await admin.find_topics(self.connection, names)) < len(names):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    @property
    def workers(self) -> list[WorkerProcess]:
        """All workers, running or not."""
        return self.supervisor.workers

    # -- waiting

    async def until_lists_flow(self, since: float, timeout_s: float = 120.0) -> tuple[float, float]:
        """Wait until every lane has written a list for an event sent after `since`.

        Seconds from `since` until the first of these lists was readable, and until all lanes had
        one. Raises SoakError.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            sent = self.feed.sent_at
            first: dict[int, float] = {}
            for place, at in list(self.lists.arrived.items()):
                if at > since and sent.get(place, 0.0) > since:
                    first[place[0]] = min(at, first.get(place[0], at))
            if len(first) == self.partitions:
                return min(first.values()) - since, max(first.values()) - since
            await asyncio.sleep(POLL_S)
        tails = "\n".join(f"--- {w.name}\n{w.tail()}" for w in self.workers)
        raise SoakError(f"not every lane wrote lists again within {timeout_s:.0f} s\n{tails}")

    def longest_wait_s(self, since: float) -> float:
        """The longest that a list came after its event, of the events sent since then."""
        sent = self.feed.sent_at
        return max(
            (
                at - sent[place]
                for place, at in list(self.lists.arrived.items())
                if sent.get(place, 0.0) > since
            ),
            default=0.0,
        )

    async def until_settled(
        self,
        reads: Iterable[tuple[str, topics.Topic]] = ROLE_TOPICS,
        timeout_s: float = SETTLE_TIMEOUT_S,
    ) -> None:
        """Wait until everything that was sent is applied, folded and answered."""
        deadline = time.monotonic() + timeout_s
        for role, topic in reads:
            while waiting := await self._waiting(role, topic):
                if time.monotonic() > deadline:
                    tails = "\n".join(f"--- {w.name}\n{w.tail()}" for w in self.workers)
                    raise SoakError(f"{waiting} records of {topic.suffix} still wait\n{tails}")
                await asyncio.sleep(POLL_S)

    async def drained(self) -> float:
        """Hold the traffic until nothing waits; the seconds that took. Raises SoakError."""
        begun = time.monotonic()
        async with self._held():
            await self.until_settled()
        return time.monotonic() - begun

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        self.feed.paused = True
        try:
            await asyncio.sleep(0.2)
            while self.feed.under_way:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            yield
        finally:
            self.feed.paused = False

    async def _waiting(self, role: str, topic: topics.Topic) -> int:
        count = self.partitions if topic.keyed == "user" else 1
        sources = [Position(topic.name(self.prefix), number) for number in range(count)]
        offsets = await state_log.committed(self.connection, f"{self.prefix}-{role}", sources)
        waiting: list[object] = []
        for source, offset in offsets.items():
            await state_log.restore(self.connection, source, waiting.extend, start=offset)
        return len(waiting)

    async def account(self) -> Account:
        """Hold the traffic, wait until it is applied, and account for all of it."""
        async with self._held():
            await self.until_settled()
            accepted = list(self.feed.accepted)
            account = await conservation.check(
                self.connection, self.prefix, self.partitions, accepted
            )
            await pictures.check(self.connection, self.prefix, self.partitions, account)
            differing = await reference.differences(self.connection, self.prefix, self.partitions)
            account.lost += len(differing)
            account.findings += differing
            return account


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
