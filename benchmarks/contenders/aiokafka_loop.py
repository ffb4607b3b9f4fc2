"""A plain aiokafka loop: fetch, work, one transaction with the results and the offsets.

Batched appends, as many records a transaction as a fetch holds, which is aiokafka's default; state
in memory only: no state log, no restore.
Options: `bootstrap`, `events`, `out` (topics), `group`, `until_events`.
"""

import asyncio
import logging
from collections import defaultdict, deque
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks import meter, small_work


async def send_all(
    producer: AIOKafkaProducer, topic: str, partition: int, results: list[tuple[bytes, bytes]]
) -> None:
    """Append results to batches and send each when it is full."""
    batch = producer.create_batch()
    for key, value in results:
        if batch.append(key=key, value=value, timestamp=None) is None:
            batch.close()
            await producer.send_batch(batch, topic, partition=partition)
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    batch.close()
    await producer.send_batch(batch, topic, partition=partition)


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Read the whole log."""
    consumer = AIOKafkaConsumer(
        given["events"], bootstrap_servers=given["bootstrap"], group_id=given["group"],
        enable_auto_commit=False, auto_offset_reset="earliest", isolation_level="read_committed",
    )  # fmt: skip
    producer = AIOKafkaProducer(
        bootstrap_servers=given["bootstrap"], transactional_id=given["group"], linger_ms=0,
        max_batch_size=1 << 20, max_request_size=16 << 20, retry_backoff_ms=5,
    )  # fmt: skip
    await consumer.start()
    await producer.start()
    watch, done, transactions = meter.Meter(), 0, 0
    rings: dict[str, list[Any]] = defaultdict(lambda: [0, deque(maxlen=small_work.RING)])
    while done < given["until_events"]:
        fetched = await consumer.getmany(timeout_ms=1000)
        if not fetched:
            continue
        watch.start()
        async with producer.transaction():
            for tp, records in fetched.items():
                results = []
                for record in records:
                    event = small_work.decode(record.value)
                    row = rings[event.user_id]
                    row[0] += 1
                    row[1].append(event.item_id)
                    list_id = f"{tp.partition}-{record.offset}"
                    body = small_work.answer(list_id, event.user_id, row[0], list(row[1]))
                    results.append((record.key, body))
                await send_all(producer, given["out"], tp.partition, results)
                done += len(records)
            offsets = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
            await producer.send_offsets_to_transaction(offsets, given["group"])
        transactions += 1
    watch.seen(done)
    await producer.stop()
    await consumer.stop()
    return watch.figures(transactions=transactions)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    meter.report(asyncio.run(work(meter.options())))
