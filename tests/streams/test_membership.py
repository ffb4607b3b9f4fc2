"""Who was killed is left behind at once; who lives is not."""

from pathlib import Path

from aiokafka import AIOKafkaConsumer

from streams.admin import admin_client
from streams.broker import Broker
from streams.connection import Connection
from streams.membership import Membership
from tests.streams.toy import Toy


async def members(connection: Connection, group_id: str) -> int:
    async with admin_client(connection) as client:
        (answer,) = await client.describe_consumer_groups([group_id])
        return len(answer.groups[0][5])


async def test_the_next_process_leaves_for_one_that_was_killed(
    local_broker: Broker, tmp_path: Path
) -> None:
    toy = await Toy(local_broker.bootstrap, tmp_path).create()
    connection, path = Connection(local_broker.bootstrap), tmp_path / "group" / "member"
    before, after = Membership(path, toy.name), Membership(path, toy.name)
    consumer = AIOKafkaConsumer(
        toy.numbers, **connection.options(), group_id=toy.name, session_timeout_ms=60_000
    )
    await consumer.start()
    try:
        await consumer.seek_to_end()  # it has its assignment
        assert not await before.leave_former(connection)
        before.joined(consumer._coordinator.member_id)
        assert not await after.leave_former(connection)
        assert await members(connection, toy.name) == 1  # its process has the file

        before.close()
        assert await after.leave_former(connection)
        assert await members(connection, toy.name) == 0
        assert path.read_bytes() == b""
    finally:
        after.close()
        await consumer.stop()


async def test_a_broker_that_does_not_answer_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "member"
    path.write_text("somebody")
    membership = Membership(path, "group")
    assert not await membership.leave_former(Connection("127.0.0.1:1"))
    membership.close()
    assert path.read_text() == "somebody"


async def test_a_worker_keeps_its_name_until_it_leaves(
    local_broker: Broker, tmp_path: Path
) -> None:
    toy = await Toy(local_broker.bootstrap, tmp_path).create()
    async with toy.worker() as (worker, _):
        path = tmp_path / "faust" / toy.name / "member"
        assert path.read_text() == worker.app.consumer.member_id != ""
    assert path.read_text() == ""
