"""A fetch for silent partitions does not hold up the others."""

import asyncio
import uuid

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.broker import Broker
from streams.loop_consumer import PatientConsumer
from tests.streams.toy import until

LONG_MS = 60_000
UNTAKEN, TAKEN = 0, 1  # the third partition is silent


async def test_what_lies_untaken_lets_no_fetch_wait_long(local_broker: Broker) -> None:
    topic = f"patience{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=local_broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 3, 1)])
    await admin.close()
    untaken, taken = (TopicPartition(topic, number) for number in (UNTAKEN, TAKEN))
    consumer = PatientConsumer(
        bootstrap_servers=local_broker.bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=LONG_MS,
        request_timeout_ms=2 * LONG_MS,
    )
    consumer.assign([TopicPartition(topic, number) for number in range(3)])
    async with AIOKafkaProducer(bootstrap_servers=local_broker.bootstrap) as producer:
        for number in (UNTAKEN, TAKEN):
            await producer.send_and_wait(topic, b"first", partition=number)
        async with consumer:
            async with asyncio.timeout(LONG_MS / 2000):
                await until(lambda: {untaken, taken} <= consumer._fetcher._records.keys())
                await asyncio.sleep(0.3)  # aiokafka's patience with what is not taken
                assert len((await consumer.getmany(taken))[taken]) == 1
                await producer.send_and_wait(topic, b"second", partition=TAKEN)
                newer = await consumer.getmany(taken, timeout_ms=LONG_MS)
    assert [record.value for record in newer[taken]] == [b"second"]
