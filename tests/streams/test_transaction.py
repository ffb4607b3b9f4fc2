"""Transactions, by our own requests and by aiokafka's: what is promised of one holds for both."""

import asyncio
import os
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from streams import state_log
from streams.broker import Broker
from streams.chunk import Position, Record
from streams.client_transactions import ClientTransactions
from streams.connection import Connection
from streams.direct_transactions import DirectTransactions
from streams.transaction import (
    LaneFencedError,
    LaneProducer,
    TransactionUncertainError,
)
from streams.transaction_requests import Ask, End, Produce, transaction_version


@pytest.fixture(params=["direct", "client"])
async def producer(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, local_broker: Broker,
    prefix: str,
) -> AsyncIterator[LaneProducer]:  # fmt: skip
    """A producer that has begun, with topics `a` and `b` of two partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=local_broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(f"{prefix}.{name}", 2, 1) for name in "ab"])
    await admin.close()
    connection = Connection(local_broker.bootstrap, direct_transactions=request.param == "direct")
    producer = LaneProducer(connection, f"{prefix}-0")
    await producer.start()
    wanted = DirectTransactions if request.param == "direct" else ClientTransactions
    assert isinstance(producer._transactions, wanted)
    yield producer
    await producer.stop()


@pytest.fixture
def a(prefix: str) -> Position:
    return Position(f"{prefix}.a", 0)


@pytest.fixture
def b(prefix: str) -> Position:
    return Position(f"{prefix}.b", 1)


async def committed(broker: Broker, source: Position, count: int) -> list[Any]:
    """What is read of it, once `count` are there: a commit is answered before its marks stand."""
    records: list[Any] = []
    for _ in range(50):
        records.clear()
        await state_log.restore(Connection(broker.bootstrap), source, records.extend)
        if len(records) >= count:
            break
        await asyncio.sleep(0.1)
    return records


def rows(count: int, size: int = 10) -> list[Record]:
    return [
        Record(b"%d" % n, os.urandom(size), [("h", b"%d" % n)], 5_000 + n) for n in range(count)
    ]


async def test_all_of_it_is_read_in_order(
    producer: LaneProducer, local_broker: Broker, a: Position, b: Position
) -> None:
    first, second = rows(40), rows(3)
    ends = await producer.commit({a: first, b: second}, {b: 7}, "group")
    assert ends == {a: 40, b: 3}
    assert (await producer.commit({a: second}, {}, ""))[a] == 44  # a marker lies between
    read = await committed(local_broker, a, 43)
    assert [record.value for record in read] == [row.value for row in first + second]
    assert [record.timestamp for record in read[:40]] == [row.timestamp_ms for row in first]
    assert read[1].headers == (("h", b"1"),)


async def test_more_than_a_batch_holds(
    producer: LaneProducer, local_broker: Broker, a: Position, b: Position
) -> None:
    many = rows(30, 100_000)
    ends = await producer.commit({a: many, b: many[:15]}, {}, "")
    assert ends == {a: 30, b: 15}
    assert [record.value for record in await committed(local_broker, a, 30)] == [
        row.value for row in many
    ]
    assert len(await committed(local_broker, b, 15)) == 15


async def test_an_older_cluster_gets_the_clients(
    local_broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes our requests, but has not settled on the version."""
    monkeypatch.setattr("streams.transaction.transaction_version", lambda _: 1)
    connection = Connection(local_broker.bootstrap, direct_transactions=True)
    producer = LaneProducer(connection, f"{prefix}-0")
    await producer.start()
    assert isinstance(producer._transactions, ClientTransactions)
    await producer.stop()


async def test_offsets_are_those_of_the_group(
    producer: LaneProducer, local_broker: Broker, prefix: str, a: Position
) -> None:
    for offset in (5, 9):
        await producer.commit({a: rows(1)}, {a: offset}, prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=local_broker.bootstrap)
    await admin.start()
    found = await admin.list_consumer_group_offsets(prefix)
    await admin.close()
    assert found[TopicPartition(*a)].offset == 9


async def test_who_was_taken_over_writes_nothing_more(
    producer: LaneProducer, local_broker: Broker, a: Position
) -> None:
    await producer.commit({a: rows(1)}, {}, "")
    other = LaneProducer(producer._connection, producer.transactional_id)
    await other.start()
    try:
        await other.commit({a: rows(2)}, {}, "")
        with pytest.raises(LaneFencedError):
            await producer.commit({a: rows(1)}, {a: 3}, "group")
    finally:
        await other.stop()
    assert len(await committed(local_broker, a, 3)) == 3


async def test_what_was_left_open_is_never_read(
    producer: LaneProducer, local_broker: Broker, a: Position
) -> None:
    await producer._transactions._send_all({a: rows(5)})  # type: ignore[union-attr]
    await producer.stop()
    await producer.start()
    await producer.commit({a: rows(2)}, {}, "")
    assert len(await committed(local_broker, a, 2)) == 2


async def test_what_nobody_has_is_uncertain(
    local_broker: Broker, prefix: str, producer: LaneProducer
) -> None:
    hasty = LaneProducer(producer._connection, f"{prefix}-hasty", timeout_ms=1_000)
    await hasty.start()
    try:
        with pytest.raises(TransactionUncertainError):
            await hasty.commit({Position(f"{prefix}.nowhere", 0): rows(1)}, {}, "")
    finally:
        await hasty.stop()


async def test_a_paused_broker_leaves_it_uncertain(
    local_broker: Broker, prefix: str, producer: LaneProducer, a: Position
) -> None:
    if not isinstance(producer._transactions, DirectTransactions):
        pytest.skip("aiokafka's takes minutes to stop")
    hasty = LaneProducer(producer._connection, f"{prefix}-hasty", timeout_ms=1_000)
    await hasty.start()
    await hasty.commit({a: rows(1)}, {}, "")
    node = local_broker.local
    assert node is not None
    node.pause()
    try:
        with pytest.raises(TransactionUncertainError):
            await hasty.commit({a: rows(1)}, {}, "")
    finally:
        node.resume()
        await hasty.stop()
    await hasty.start()  # ends it one way or the other
    await hasty.commit({a: rows(1)}, {}, "")
    await hasty.stop()
    assert len(await committed(local_broker, a, 2)) in (2, 3)


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("layout", ["Produce", "Offsets", "End"])
async def test_a_connection_that_breaks_costs_nothing(
    local_broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch, a: Position,
    producer: LaneProducer, layout: str, reached: bool,
) -> None:  # fmt: skip
    """The request is sent once more, whether or not the first one arrived; it counts once."""
    transactions = producer._transactions
    if not isinstance(transactions, DirectTransactions):
        pytest.skip("aiokafka does its own")
    send, broken = transactions._client.send, [0]

    async def breaks(node: int, request: Any, **more: Any) -> Any:
        hit = isinstance(request, Ask) and request._layout.__name__ == layout and not broken[0]
        broken[0] += hit
        if hit and not reached:
            raise KafkaConnectionError
        answer = await send(node, request, **more)
        if hit:
            raise KafkaConnectionError
        return answer

    monkeypatch.setattr(transactions._client, "send", breaks)
    for offset in (1, 2):
        assert (await producer.commit({a: rows(5)}, {a: offset}, prefix))[a] == 6 * offset - 1
    assert broken == [1]
    assert len(await committed(local_broker, a, 10)) == 10


async def test_transactions_of_several_lanes_at_once(
    local_broker: Broker, prefix: str, producer: LaneProducer, a: Position
) -> None:
    """They meet in one partition, and in one group."""
    connection = producer._connection
    lanes = [LaneProducer(connection, f"{prefix}-{n}") for n in range(1, 4)]

    async def work(lane: LaneProducer, number: int) -> None:
        await lane.start()
        for offset in range(10):
            await lane.commit({a: rows(2)}, {Position(a.topic, number % 2): offset}, prefix)
        await lane.stop()

    await asyncio.gather(*(work(lane, number) for number, lane in enumerate(lanes)))
    assert len(await committed(local_broker, a, 60)) == 60


def test_a_broker_that_does_not_take_our_version_is_told() -> None:
    with pytest.raises(Exception, match="Produce"):
        Ask(Produce, "id", -1, 10, []).prepare({0: (0, 11)})
    asked = Ask(End, "id", 1, 2, True).prepare({26: (0, 5)})
    assert asked.encode() == b"\x03id" + bytes(7) + b"\x01\x00\x02\x01\x00"


@given(
    st.dictionaries(
        st.text(max_size=200),
        st.dictionaries(st.integers(0, 1 << 20), st.binary(max_size=300), max_size=3),
        max_size=3,
    )
)
def test_batches_are_laid_out_as_the_schema_says(batches: dict[str, dict[int, bytes]]) -> None:
    topics = [
        (topic, [(partition, bytearray(batch), {}) for partition, batch in rows.items()], {})
        for topic, rows in batches.items()
    ]
    asked = Ask(Produce, "id", -1, 10_000, topics).prepare({0: (3, 12)})
    assert asked.encode() == Produce.SCHEMA.encode(("id", -1, 10_000, topics, {}))


def test_without_features_there_is_no_version() -> None:
    features = b"\x02\x14transaction.version\x00\x02\x00\x02\x00"
    assert transaction_version(SimpleNamespace(tags={})) == 0
    assert transaction_version(SimpleNamespace(tags={2: features})) == 2
