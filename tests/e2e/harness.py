"""What the end-to-end tests drive: a shop on a broker, and its workers as real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import ConsumerRecord, RecordMetadata

from recsys.item_state import ItemState
from recsys.pipeline import default_models
from recsys.user_lane import UserLane
from recsys.user_state import UserState
from streams import admin, topics
from streams.chunk import Position, Record
from streams.connection import Connection
from streams.local_kafka import free_ports
from streams.state_log import Load, restore
from streams.topics import Topic
from streams.transaction_requests import NO_TAGS, Ask, Produce

TIMEOUT_S = 90.0  # what takes seconds may take many on a loaded machine
START_TIMEOUT_S = 240.0  # the first start of all compiles every kernel
POLL_S = 0.2
PARTITIONS = 4

T = TypeVar("T")


async def until(
    look: Callable[[], Awaitable[T | None]], what: str, timeout_s: float = TIMEOUT_S
) -> T:
    """Ask until there is an answer that is not None or False."""
    deadline = time.monotonic() + timeout_s
    while True:
        if (found := await look()) not in (None, False):
            return found  # type: ignore[return-value]
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        await asyncio.sleep(POLL_S)


class WorkerProcess:
    """One `recsys worker`; its log is a file, its web port its own."""

    def __init__(self, environ: dict[str, str], roles: Sequence[str], log_path: Path) -> None:
        self.port = free_ports(1)[0]
        self.log_path = log_path
        options = [text for role in roles for text in ("--role", role)]
        with log_path.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "recsys", "worker", *options],
                env={**environ, "RECSYS_WORKER__WEB_PORT": str(self.port)},
                cwd=log_path.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def health(self, page: str = "ready") -> tuple[int, dict[str, Any]]:
        """Status and body of a health page; status 0 where nobody answers."""
        try:
            url = f"http://127.0.0.1:{self.port}/health/{page}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    async def until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        async def look() -> bool:
            assert self.process.poll() is None, f"the worker ended:\n{self.log[-4000:]}"
            return (await asyncio.to_thread(self.health))[0] == 200

        await until(look, f"a worker to be ready; its log:\n{self.log[-4000:]}", timeout_s)

    async def lanes(self, role: str = "behaviour") -> list[int]:
        """The lanes that are ready here."""
        _, body = await asyncio.to_thread(self.health)
        groups = body.get("lanes", {})
        lanes = next((groups[name] for name in groups if name.endswith(f"-{role}")), {})
        return [int(number) for number, lane in lanes.items() if lane["ready"]]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    async def stop(self, timeout_s: float = TIMEOUT_S) -> tuple[int, float]:
        """SIGTERM; the exit code, and how many seconds it took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = await self.exit_code(timeout_s)
        return code, time.monotonic() - begin

    async def exit_code(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for its end."""

        async def look() -> bool:
            return self.process.poll() is not None

        await until(look, f"a worker to end; its log:\n{self.log[-4000:]}", timeout_s)
        return int(self.process.returncode)


@dataclass
class Shop:
    """One prefix on one broker: its topics, its workers, and all that lies in Kafka of it."""

    bootstrap: str
    prefix: str
    folder: Path
    partitions: int = PARTITIONS
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)

    # -- life

    async def create(self) -> "Shop":
        """Make the topics, as `recsys topics create` does, and wait until they are known."""
        wanted = admin.wanted_topics(self.prefix, self.partitions, 1, 1)
        connection = Connection(self.bootstrap)
        await admin.create_topics(connection, wanted)
        names = [each.name for each in wanted]

        async def look() -> bool:
            return len(await admin.find_topics(connection, names)) == len(names)

        await until(look, "the topics")
        return self

    async def remove(self) -> None:
        """End the workers and delete the topics."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.kill()
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            there = await client.list_topics()
            mine = [name for name in there if name.startswith(f"{self.prefix}.")]
            if mine:
                await client.delete_topics(mine)
        finally:
            await client.close()

    def start(
        self, roles: Sequence[str] = ("behaviour", "items"), data: str = "data", **settings: str
    ) -> WorkerProcess:
        """Start a worker. `settings` are further RECSYS_ variables, without that prefix."""
        given = {
            "BROKER": self.bootstrap,
            "PREFIX": self.prefix,
            "APPLICATION": self.prefix,
            "PARTITIONS": str(self.partitions),
            "DATA_DIR": str(self.folder / data),
            **self.settings,
            **settings,
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
        environ |= {f"RECSYS_{name}": value for name, value in given.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        log_path = self.folder / f"worker-{len(self.workers)}.log"
        worker = WorkerProcess(environ, roles, log_path)
        self.workers.append(worker)
        return worker

    # -- what goes in

    def topic(self, topic: Topic) -> str:
        """The topic's name here."""
        return topic.name(self.prefix)

    async def produce(
        self,
        topic: Topic,
        records: Iterable[Record],
        partition: int | None = None,
        compression: str | None = None,
    ) -> list[RecordMetadata]:
        """Send records in their order; where each came to lie."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, enable_idempotence=True, linger_ms=5,
            compression_type=compression, max_request_size=64 << 20,
        ) as producer:  # fmt: skip
            name = self.topic(topic)
            sent = [
                await producer.send(
                    name, value, key=key, partition=partition, headers=list(headers)
                )
                for key, value, headers, _ in records
            ]
            return list(await asyncio.gather(*sent))

    async def produce_batch(self, topic: Topic, partition: int, batch: bytes) -> int:
        """Send a batch as it is, which no client of ours would; the broker's error code."""
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap)
        await client.bootstrap()
        try:
            await client.add_topic(name := self.topic(topic))
            leader = client.cluster.leader_for_partition(TopicPartition(name, partition))
            rows = [(partition, batch, NO_TAGS)]
            request = Ask(Produce, None, -1, 10_000, [(name, rows, NO_TAGS)])
            answer = await client.send(leader, request)
            return int(answer.topics[0][1][0][1])
        finally:
            await client.close()

    async def produce_events(self, events: Iterable[dict[str, Any]]) -> list[RecordMetadata]:
        """Send behaviour events by their users' keys."""
        return await self.produce(
            topics.BEHAVIOUR,
            [Record(each["user_id"].encode(), json.dumps(each).encode()) for each in events],
        )

    # -- what comes out

    async def read(self, topic: Topic | str) -> list[ConsumerRecord]:
        """Every committed record of a topic, partition by partition."""
        name = topic if isinstance(topic, str) else self.topic(topic)
        async with AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=8 << 20,
        ) as consumer:
            await consumer._client.add_topic(name)
            tps = [TopicPartition(name, p) for p in sorted(consumer.partitions_for_topic(name))]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in tps}
            for tp in [tp for tp in tps if ends[tp] > 0]:
                while await consumer.position(tp) < ends[tp]:
                    for at, records in (await consumer.getmany(timeout_ms=100)).items():
                        found[at] += records
            return [record for tp in tps for record in found[tp]]

    async def lists(self) -> list[dict[str, Any]]:
        """Every ranked list that a reader of committed records sees."""
        return [json.loads(record.value) for record in await self.read(topics.RECOMMENDATIONS)]

    async def dead_letters(self, topic: Topic = topics.BEHAVIOUR) -> list[ConsumerRecord]:
        """Every dead letter of a topic."""
        return await self.read(topics.dead_letter_name(self.topic(topic)))

    async def settled(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until everything that lies in the topics was applied, and folded into the items."""
        for role, topic in (
            ("behaviour", topics.BEHAVIOUR),
            ("behaviour", topics.REQUESTS),
            ("items", topics.ITEM_UPDATES),
        ):

            async def look(role: str = role, topic: Topic = topic) -> bool:
                return await self._is_settled(role, topic)

            await until(look, f"{topic.suffix} to be applied\n{self._logs()}", timeout_s)

    async def _is_settled(self, role: str, topic: Topic) -> bool:
        # Markers of transactions take offsets too: the last record counts, not the end.
        ends: dict[TopicPartition, int] = {}
        for record in await self.read(topic):
            ends[TopicPartition(record.topic, record.partition)] = record.offset + 1
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            offsets = await client.list_consumer_group_offsets(f"{self.prefix}-{role}")
        finally:
            await client.close()
        return all(tp in offsets and offsets[tp].offset >= end for tp, end in ends.items())

    def _logs(self) -> str:
        return "\n".join(f"--- {w.log_path.name}\n{w.log[-2000:]}" for w in self.workers)

    # -- the committed state, read from its log as any successor would

    async def users(self) -> list[UserState]:
        """The users of each lane."""
        lanes = [UserLane(UserState(ItemState(default_models()))) for _ in range(self.partitions)]
        for number, lane in enumerate(lanes):
            source = Position(self.topic(topics.USER_STATE), number)
            await restore(Connection(self.bootstrap), source, _loader(lane))
        return [lane.users for lane in lanes]

    async def items(self) -> ItemState:
        """What is known of the items."""
        items = ItemState(default_models())
        source = Position(self.topic(topics.ITEM_STATE), 0)
        await restore(Connection(self.bootstrap), source, _loader(items))
        return items

    async def digests(self) -> tuple[list[str], str]:
        """Fingerprints of the users of each lane, and of the items' integer counts."""
        return [users.digest() for users in await self.users()], (await self.items()).digest()

    async def user(self, user_id: str) -> dict[int, int]:
        """How often a user met each item (by its key), by the committed state."""
        for users in await self.users():
            past = users.history(users.find(user_id))
            if len(past.items):
                keys = users.items.ids.keys[past.items]
                return dict(zip(keys.tolist(), past.counts.tolist(), strict=True))
        return {}


def _loader(state: UserLane | ItemState) -> Load:
    def load(records: list[ConsumerRecord]) -> None:
        state.load_records((record.key, record.value) for record in records)

    return load
