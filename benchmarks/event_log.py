"""Event logs to measure on: synthetic shops of any size, and topics filled with them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from streams import admin
from streams.connection import Connection
from streams.partition import partition_of

START_MS = 1_700_000_000_000
TYPES = ("view", "view", "view", "view", "click", "click", "cart", "purchase")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Shop:
    """A synthetic shop: how many events, users and items, and how popularity is skewed.

    Users take part in turn at random, items follow a power law around a taste of the user's own,
    event times run forward by `step_ms` from `start_ms`.
    """

    events: int
    users: int = 5_000
    items: int = 4_000
    step_ms: int = 500
    start_ms: int = START_MS
    seed: int = 1

    @classmethod
    def until_now(cls, events: int, **more: Any) -> "Shop":
        """One whose last event is of this moment: live events can follow it."""
        shop = cls(events, **more)
        return replace(shop, start_ms=int(time.time() * 1000) - events * shop.step_ms)

    def rows(self) -> Iterator[tuple[str, str, str, int]]:
        """(user_id, item_id, type, timestamp) in the order of time."""
        rng = np.random.default_rng(self.seed)
        done = 0
        while done < self.events:
            count = min(100_000, self.events - done)
            users = rng.integers(self.users, size=count)
            own_taste = (users * 7_919) % self.items
            spread = (self.items * rng.random(count) ** 4).astype(np.int64)
            popular = (self.items * rng.random(count) ** 3).astype(np.int64)
            items = np.where(rng.random(count) < 0.5, (own_taste + spread) % self.items, popular)
            types = rng.integers(len(TYPES), size=count)
            columns = zip(users.tolist(), items.tolist(), types.tolist(), strict=True)
            for at, (user, item, kind) in enumerate(columns, done):
                yield f"u{user}", f"i{item}", TYPES[kind], self.start_ms + at * self.step_ms
            done += count

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """The same as keys and values of behaviour events, each with an event_id."""
        for number, row in enumerate(self.rows()):
            yield record(*row, event_id=f"e{self.seed}-{number:09d}")


def record(
    user_id: str, item_id: str, kind: str, timestamp: int, event_id: str
) -> tuple[bytes, bytes]:
    """Key and value of one behaviour event."""
    body = {"event_id": event_id, "user_id": user_id, "item_id": item_id, "type": kind,
            "timestamp": timestamp}  # fmt: skip
    return user_id.encode(), _encode(body)


async def create_topics(
    connection: Connection, names: Sequence[str], partitions: int, compact: Sequence[str] = ()
) -> None:
    """Plain topics for contenders; those in `compact` are compacted."""
    wanted = [
        admin.WantedTopic(
            name, "user", partitions, 1,
            {"cleanup.policy": "compact" if name in compact else "delete"}, "benchmark",
        )
        for name in names
    ]  # fmt: skip
    await admin.create_topics(connection, wanted)


async def fill(
    connection: Connection, topic: str, partitions: int, records: Iterator[tuple[bytes, bytes]]
) -> None:
    """Write records to a topic in large batches, each to the partition of its key."""
    producer = AIOKafkaProducer(
        **connection.options(), linger_ms=5, max_batch_size=1 << 18, request_timeout_ms=30_000
    )
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]
        homes: dict[bytes, int] = {}
        for key, value in records:
            home = homes.get(key)
            if home is None:
                home = homes[key] = partition_of(key, partitions)
            if batches[home].append(key=key, value=value, timestamp=None) is None:
                batches[home].close()
                await producer.send_batch(batches[home], topic, partition=home)
                batches[home] = producer.create_batch()
                batches[home].append(key=key, value=value, timestamp=None)
        for home, batch in enumerate(batches):
            if batch.record_count():
                batch.close()
                await producer.send_batch(batch, topic, partition=home)
        await producer.flush()
    finally:
        await producer.stop()


def fill_topic(connection: Connection, topic: str, partitions: int, shop: Shop) -> None:
    """Create a topic and fill it with a shop's events."""

    async def work() -> None:
        await create_topics(connection, [topic], partitions)
        await fill(connection, topic, partitions, shop.records())

    asyncio.run(work())
