"""The check that a frozen worker was fenced must itself be able to fail; by real batches."""

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from recsys.soak import writers
from recsys.soak.fencing import intruders
from streams.broker import Broker
from streams.chunk import Position, Record
from streams.connection import Connection
from streams.transaction import LaneFencedError, LaneProducer


@pytest.mark.parametrize("direct", [True, False])
async def test_who_writes_after_the_takeover_is_found(
    local_broker: Broker, prefix: str, direct: bool
) -> None:
    log = await _log(local_broker, prefix)
    connection = Connection(local_broker.bootstrap, direct_transactions=direct)
    frozen, other = (LaneProducer(connection, f"{prefix}-{name}") for name in ("one", "two"))
    await frozen.start()
    await other.start()  # under another id: nobody is fenced
    try:
        await _write(frozen, log)
        end = (await writers.ends(connection, [log]))[log]
        if not direct:  # with an epoch a transaction it would look like a takeover
            await _write(frozen, log)  # what was under way when it was stopped
        assert intruders(await writers.read(connection, log, 0), end) == ["nobody took it over"]
        await _write(other, log)
        assert intruders(await writers.read(connection, log, 0), end) == []
        await _write(frozen, log)
        (told,) = intruders(await writers.read(connection, log, 0), end)
        assert "after the takeover" in told
    finally:
        await frozen.stop()
        await other.stop()


async def test_who_is_fenced_is_not_found_there(local_broker: Broker, prefix: str) -> None:
    log = await _log(local_broker, prefix)
    connection = Connection(local_broker.bootstrap, direct_transactions=True)
    frozen, other = (LaneProducer(connection, prefix) for _ in range(2))
    await frozen.start()
    try:
        await _write(frozen, log)
        end = (await writers.ends(connection, [log]))[log]
        await other.start()
        await _write(other, log)
        with pytest.raises(LaneFencedError):
            await _write(frozen, log)
        await _write(other, log)
        assert intruders(await writers.read(connection, log, 0), end) == []
        assert intruders([], end) == ["nothing of it is there to tell it by"]
    finally:
        await frozen.stop()
        await other.stop()


async def _log(broker: Broker, prefix: str) -> Position:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"{prefix}.log", 1, 1)])
    finally:
        await admin.close()
    return Position(f"{prefix}.log", 0)


async def _write(producer: LaneProducer, log: Position) -> None:
    await producer.commit({log: [Record(b"k", b"v"), Record(b"k", b"w")]}, {}, "")
