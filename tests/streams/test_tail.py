"""The tail knows what was committed, also by others while it thought itself the owner."""

import time
import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.broker import Broker
from streams.chunk import Position
from streams.connection import Connection
from streams.state_log import BIRTH_KEY, POSITIONS_KEY
from streams.tail import Tail
from tests.streams.toy import until


async def test_rows_that_a_successor_wrote_are_read_once_the_partition_is_given_up(
    local_broker: Broker,
) -> None:
    bootstrap, topic = local_broker.bootstrap, f"tail{uuid.uuid4().hex[:8]}"
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    await client.create_topics([NewTopic(topic, 2, 1)])
    await client.close()
    seen: list[tuple[int, bytes]] = []
    tail = Tail(
        Connection(bootstrap),
        {topic: lambda records: seen.extend((r.partition, r.value) for r in records)},
    )
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(topic, b"first", partition=0)
        await tail.start()
        try:
            await tail.catch_up()
            assert seen == [(0, b"first")]
            tail.owned.add(Position(topic, 0))
            await producer.send_and_wait(topic, b"by the owner", partition=0)
            await producer.send_and_wait(topic, b"elsewhere", partition=1)
            await until(lambda: (1, b"elsewhere") in seen)
            assert (0, b"by the owner") not in seen
            tail.owned.discard(Position(topic, 0))
            await until(lambda: (0, b"by the owner") in seen)
        finally:
            await tail.stop()
    assert len(seen) == len(set(seen)) == 3


def test_what_comes_before_the_start_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first start may compile for minutes; that must not look like a broker that is gone."""
    now = time.monotonic()
    tail = Tail(Connection("localhost:1"), {})
    monkeypatch.setattr(time, "monotonic", lambda: now + 600)
    assert tail.silent_s == 0


async def test_notes_of_lanes_are_no_rows(local_broker: Broker) -> None:
    bootstrap, topic = local_broker.bootstrap, f"tail{uuid.uuid4().hex[:8]}"
    seen: list[bytes] = []
    tail = Tail(Connection(bootstrap), {topic: lambda records: seen.extend(r.key for r in records)})
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    await client.create_topics([NewTopic(topic, 1, 1)])
    await client.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for key in (POSITIONS_KEY, b"row", BIRTH_KEY, b"another"):
            await producer.send_and_wait(topic, b"{}", key=key)
    await tail.start()
    try:
        await tail.catch_up()
        assert seen == [b"row", b"another"]
    finally:
        await tail.stop()
