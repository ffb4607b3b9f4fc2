"""What the rest relies on, of every broker that can be had."""

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from streams.loopback import brokers_known


class TestBroker:
    async def test_transactions_are_all_or_nothing(self, bootstrap: str, prefix: str) -> None:
        topic = f"{prefix}.contract"
        await _create(bootstrap, topic)
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=f"{prefix}-writer",
            retry_backoff_ms=5,
        ) as producer:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"kept", partition=0)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"dropped", partition=0)
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send_and_wait(topic, b"last", partition=0)
        values = []
        async with AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        ) as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            while not values or values[-1] != b"last":
                values.append((await consumer.getone()).value)
        assert values == [b"kept", b"last"]

    async def test_a_photo_of_eight_megabytes_passes(self, bootstrap: str, prefix: str) -> None:
        topic = f"{prefix}.photos"
        photo = bytes(8 * 1024 * 1024)
        await _create(bootstrap, topic, {"max.message.bytes": str(9 * 1024 * 1024)})
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap, max_request_size=9 * 1024 * 1024
        ) as producer:
            sent = await producer.send_and_wait(topic, photo, partition=0)
        assert sent.offset == 0

    def test_a_metadata_request_is_answered(self, bootstrap: str) -> None:
        assert brokers_known(bootstrap) >= 1


async def _create(bootstrap: str, topic: str, configs: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        made = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs or {})])
        for _, code, *_ in made.topic_errors:
            if code:
                raise for_code(code)
    finally:
        await admin.close()
