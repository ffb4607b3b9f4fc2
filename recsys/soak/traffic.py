"""What a shop's clients send on a bad day, by seed: retries, late events, broken records."""

import asyncio
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams import topics
from streams.chunk import Record
from streams.connection import Connection
from streams.events import EVENT_TYPES
from streams.partition import partition_of

DAY_MS = topics.DAY_MS
USERS, ITEMS = 150, 250
SETTLE_S = 30.0  # what is under way has so long at the end
RETRIED_OF = 5  # a producer's retry repeats one of the newest events of all

ORDINARY = "event in order"
RETRY = "event sent twice by its producer"
LATE = "event out of order, up to 30 days late"
CLOCK = "event of a clock set wrong by 300 days or more"
WRONG_LANE = "event in another user's partition"
BROKEN = "broken record among the others"
REQUEST = "request for a list"


@dataclass(frozen=True)
class Sent:
    """One record on its way: a partition where the client chose one of its own."""

    topic: topics.Topic
    record: Record
    partition: int | None = None


class Traffic:
    """An endless stream of records, the same for the same seed but for the time it starts at."""

    def __init__(self, seed: int, partitions: int, start_ms: int | None = None) -> None:
        self.kinds: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._partitions = partitions
        self._now_ms = start_ms or time.time_ns() // 1_000_000
        self._sent: deque[bytes] = deque(maxlen=RETRIED_OF)
        self._seed = seed
        self._count = 0

    def __iter__(self) -> Iterator[Sent]:
        kinds = ("event", "retry", "request", "wrong lane", "poison")
        while True:
            kind = self._random.choices(kinds, (88, 4, 3, 2, 3))[0]
            self._count += 1
            yield self._make(kind)

    def _make(self, kind: str) -> Sent:
        if kind == "request":
            return self._request()
        if kind == "poison":
            return self.broken()
        body, told = self._event()
        if kind == "retry" and self._sent:
            body, told = self._sent[self._random.randrange(len(self._sent))], RETRY
        key = json.loads(body)["user_id"].encode()
        self.kinds[WRONG_LANE if kind == "wrong lane" else told] += 1
        if kind == "wrong lane":
            home = partition_of(key, self._partitions)
            return Sent(topics.BEHAVIOUR, Record(key, body), (home + 1) % self._partitions)
        self._sent.append(body)
        return Sent(topics.BEHAVIOUR, Record(key, body))

    def broken(self) -> Sent:
        """A record that is likely to break the contract, in any lane."""
        body, _ = self._event()
        key = json.loads(body)["user_id"].encode()
        self.kinds[BROKEN] += 1
        return Sent(topics.BEHAVIOUR, poison(self._random, key, body), self._lane())

    def _lane(self) -> int:
        return self._random.randrange(self._partitions)

    def _event(self) -> tuple[bytes, str]:
        """A valid event, and what is odd about it."""
        rng = self._random
        self._now_ms += rng.randrange(200)
        late_ms = rng.choice((0, 0, 0, 0, 0, rng.randrange(1000), rng.randrange(30 * DAY_MS)))
        told = LATE if late_ms else ORDINARY
        event = {
            "user_id": f"u{int(USERS * rng.random() ** 2)}",
            "item_id": f"i{int(ITEMS * rng.random() ** 2)}",
            "type": rng.choice(EVENT_TYPES),
            "timestamp": self._now_ms - late_ms,
            "event_id": f"{self._seed}-{self._count}",
        }
        if rng.random() < 0.01:  # a clock that was set wrong
            event["timestamp"] = self._now_ms + rng.choice((-300, 400)) * DAY_MS
            told = CLOCK
        if event["type"] == "rating":
            event["value"] = rng.randint(1, 5)
        return json.dumps(event).encode(), told

    def _request(self) -> Sent:
        rng = self._random
        user = f"u{rng.randrange(2 * USERS)}"
        self.kinds[REQUEST] += 1
        request = {"user_id": user, "request_id": f"{self._seed}-{self._count}", "k": 5}
        if rng.random() < 0.3:
            request["context_items"] = [f"i{rng.randrange(ITEMS)}"]
        return Sent(topics.REQUESTS, Record(user.encode(), json.dumps(request).encode()))


def poison(rng: random.Random, key: bytes, body: bytes) -> Record:
    """Break a valid record in one of many ways; a few of them leave it valid."""
    way = rng.randrange(8)
    at = rng.randrange(len(body))
    if way == 0:
        return Record(key, body[:at])
    if way == 1:
        return Record(key, body[:at] + rng.randbytes(1) + body[at + 1 :])
    if way == 2:
        return Record(key, rng.choice((None, rng.randbytes(at), b"[" * at, b"\xef\xbb\xbf" + body)))
    if way == 3:
        return Record(rng.choice((None, b"", rng.randbytes(5))), body)
    fields = json.loads(body)
    name = rng.choice(list(fields))
    if way == 4:
        del fields[name]
    elif way == 5:
        fields[name] = rng.choice((None, True, [], {}, -1, "", 1e308, math.nan, "\0", "x" * 300))
    elif way == 6:
        fields["timestamp"] = rng.choice(("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 0, 1e16))
    else:
        fields["context"] = {"note": "x" * 70_000}
    return Record(key, json.dumps(fields).encode())


@dataclass
class Feed:
    """Sends traffic at a rate until it is stopped, and keeps what the broker acknowledged."""

    connection: Connection
    prefix: str
    traffic: Traffic
    per_s: float = 20.0
    accepted: list[tuple[int, int]] = field(default_factory=list)  # events: partition and offset
    sent_at: dict[tuple[int, int], float] = field(default_factory=dict)  # by place, monotonic
    refused: int = 0
    paused: bool = False
    under_way: set["asyncio.Task[None]"] = field(default_factory=set)
    _task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        """Send in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def send_poison(self, count: int) -> None:
        """Send so many broken records at once, and wait for them."""
        async with self._producer() as producer:
            broken = (self.traffic.broken() for _ in range(count))
            await asyncio.gather(*(self._send(producer, each) for each in broken))

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self.connection.options(),
            enable_idempotence=True,
            linger_ms=5,
            retry_backoff_ms=50,
            request_timeout_ms=60_000,
        )

    async def _run(self) -> None:
        under_way = self.under_way
        producer = self._producer()
        await producer.start()
        try:
            begun, count = time.monotonic(), 0
            for each in self.traffic:
                while self.paused:
                    await asyncio.sleep(0.05)
                    begun, count = time.monotonic(), 0
                task = asyncio.create_task(self._send(producer, each))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                count += 1
                ahead_s = begun + count / self.per_s - time.monotonic()
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                elif ahead_s < -1:  # after an outage, go on from here and do not catch up
                    begun, count = time.monotonic(), 0
        finally:
            if under_way:  # a broker with a full disk answers nothing
                await asyncio.wait(under_way, timeout=SETTLE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.stop(), SETTLE_S)

    async def _send(self, producer: AIOKafkaProducer, each: Sent) -> None:
        key, value, *_ = each.record
        begun = time.monotonic()
        try:
            future = await producer.send(
                each.topic.name(self.prefix), value, key=key, partition=each.partition
            )
            found = await future
        except KafkaError:
            self.refused += 1
            return
        if each.topic is topics.BEHAVIOUR:
            self.accepted.append((found.partition, found.offset))
            self.sent_at[found.partition, found.offset] = begun
