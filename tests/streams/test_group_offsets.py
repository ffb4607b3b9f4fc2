"""A coordinator that cannot tell where a group stands is asked again, never taken for "nowhere"."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from streams import group_offsets, kafka_runtime
from streams.broker import LocalKafka
from streams.connection import Connection

GROUP = "readers"
TP = TopicPartition("read", 0)


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    with LocalKafka(kafka_runtime.from_lock(), nodes=3, heap_mb=256) as kafka:
        yield kafka


@pytest.mark.slow
async def test_who_does_not_coordinate_the_group_is_not_believed(kafka: LocalKafka) -> None:
    """Kafka's own answer: NOT_COORDINATOR, once, with no partition."""
    options = Connection(kafka.bootstrap).options()
    client = AIOKafkaAdminClient(**options)
    await client.start()
    await client.create_topics([NewTopic(TP.topic, 1, 1)])
    await client.close()
    consumer = AIOKafkaConsumer(**options, group_id=GROUP, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TP])
        await consumer.commit({TP: 77})
        group = consumer._coordinator
        for node in (1, 2, 3):
            group.coordinator_id = node
            assert await consumer.committed(TP) == 77
    finally:
        await consumer.stop()


class Coordinator:
    """What is known of a group's coordinator."""

    group_id = GROUP

    def __init__(self) -> None:
        self.dead = False

    def coordinator_dead(self) -> None:
        self.dead = True


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        (errors.GroupLoadInProgressError.errno, False),
        (errors.GroupCoordinatorNotAvailableError.errno, True),
        (errors.NotCoordinatorForGroupError.errno, True),
    ],
)
async def test_an_error_of_all_offsets_is_raised_to_be_retried(
    monkeypatch: pytest.MonkeyPatch, code: int, lost: bool
) -> None:
    async def answer(coordinator: Any, request: Any) -> OffsetFetchResponse_v3:
        return OffsetFetchResponse_v3(0, [], code)

    monkeypatch.setattr(group_offsets, "_send", answer)
    coordinator: Any = Coordinator()
    with pytest.raises(errors.KafkaError, match=GROUP) as raised:
        await group_offsets.send_checked(coordinator, None)
    assert raised.value.retriable
    assert coordinator.dead is lost
