"""A producer that keeps its schedule whatever happens: an event's time is when it was due.

Options: `bootstrap`, `topic`, `partitions`, `rate` (events/s), `seconds`, `users`, `items`, `seed`.
"""

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks import meter
from benchmarks.event_log import Shop, record
from streams.connection import Connection
from streams.partition import partition_of

TICK_S = 0.002


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Send every event at its time, or as soon after it as can be."""
    rate, partitions = given["rate"], given["partitions"]
    total = int(rate * given["seconds"])
    shop = Shop(total, given["users"], given["items"], seed=given["seed"])
    rows = list(shop.rows())
    homes = {row[0]: partition_of(row[0].encode(), partitions) for row in rows}
    producer = AIOKafkaProducer(**Connection(given["bootstrap"]).options(), linger_ms=0)
    await producer.start()
    sent: list[Any] = []
    late_ms = 0.0
    start_s = time.time() + 0.1
    done = 0
    while done < total:
        await asyncio.sleep(max(start_s + done / rate - time.time(), TICK_S))
        due = min(total, int((time.time() - start_s) * rate) + 1)
        batches: dict[int, Any] = {}
        for number in range(done, due):
            due_ms = round(1000 * (start_s + number / rate))
            user, item, kind, _ = rows[number]
            home = homes[user]
            batch = batches.get(home) or batches.setdefault(home, producer.create_batch())
            key, value = record(user, item, kind, due_ms, f"o{given['seed']}-{number}")
            if batch.append(key=key, value=value, timestamp=None) is None:  # it is full
                batch.close()
                sent.append(await producer.send_batch(batch, given["topic"], partition=home))
                batch = batches[home] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        for home, batch in batches.items():
            batch.close()
            sent.append(await producer.send_batch(batch, given["topic"], partition=home))
        if done < due:
            late_ms = max(late_ms, 1000 * (time.time() - start_s - done / rate))
        done = due
    await asyncio.gather(*sent)
    await producer.stop()
    return {"events": total, "from_ms": round(1000 * start_s), "late_ms_max": late_ms}


if __name__ == "__main__":
    meter.report(asyncio.run(work(meter.options())))
