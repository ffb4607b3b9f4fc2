"""The limits: consume, or consume and decode, with aiokafka or confluent-kafka.

Options: `bootstrap`, `events` (topic), `group`, `until_events`, `client`, `decode`.
"""

import asyncio
from typing import Any

from benchmarks import meter, small_work


async def with_aiokafka(given: dict[str, Any]) -> dict[str, Any]:
    """aiokafka's getmany."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        given["events"], bootstrap_servers=given["bootstrap"], group_id=given["group"],
        auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip
    await consumer.start()
    watch, done = meter.Meter(), 0
    while done < given["until_events"]:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            watch.start()
            if given["decode"]:
                for record in records:
                    small_work.decode(record.value)
            done += len(records)
    watch.seen(done)
    await consumer.stop()
    return watch.figures()


def with_confluent(given: dict[str, Any]) -> dict[str, Any]:
    """librdkafka's consume in batches."""
    from confluent_kafka import Consumer

    consumer = Consumer({
        "bootstrap.servers": given["bootstrap"], "group.id": given["group"],
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.queue.backoff.ms": 5,
    })  # fmt: skip
    consumer.subscribe([given["events"]])
    watch, done = meter.Meter(), 0
    while done < given["until_events"]:
        messages = consumer.consume(4000, timeout=1.0)
        if messages:
            watch.start()
        if given["decode"]:
            for message in messages:
                small_work.decode(message.value())
        done += len(messages)
    watch.seen(done)
    consumer.close()
    return watch.figures()


if __name__ == "__main__":
    settings = meter.options()
    if settings["client"] == "aiokafka":
        meter.report(asyncio.run(with_aiokafka(settings)))
    else:
        meter.report(with_confluent(settings))
