"""From a request to its list: a client that asks at a rate and reads the answers.

Options: `bootstrap`, `requests`, `lists` (topics), `partitions`, `rate`, `seconds`, `users`. A wait
runs from when the request was due.
"""

import asyncio
import time
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from benchmarks import meter
from benchmarks.contenders.list_reader import consumer_of, percentiles
from streams.connection import Connection
from streams.partition import partition_of

PATIENCE_S = 10.0


class _Answer(msgspec.Struct):
    request_id: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode


async def ask(given: dict[str, Any], due_ms: dict[str, float]) -> None:
    """Send every request at its time, or as soon after it as can be."""
    rate = given["rate"]
    total = int(rate * given["seconds"])
    producer = AIOKafkaProducer(**Connection(given["bootstrap"]).options(), linger_ms=0)
    await producer.start()
    start_s = time.time() + 0.1
    for number in range(total):
        due_s = start_s + number / rate
        await asyncio.sleep(max(0.0, due_s - time.time()))
        user = f"u{(number * 7_919) % given['users']}"
        body = {"user_id": user, "request_id": f"r{number}"}
        due_ms[f"r{number}"] = 1000 * due_s
        home = partition_of(user.encode(), given["partitions"])
        await producer.send(given["requests"], _encode(body), user.encode(), partition=home)
    await producer.stop()


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Ask, and read until all are answered or patience ends."""
    consumer = await consumer_of(given["bootstrap"], given["lists"], at_end=True)
    for tp in consumer.assignment():
        await consumer.position(tp)
    due_ms: dict[str, float] = {}
    waits: dict[str, float] = {}
    asking = asyncio.create_task(ask(given, due_ms))
    until = time.monotonic() + given["seconds"] + PATIENCE_S
    while time.monotonic() < until and not (asking.done() and len(waits) == len(due_ms)):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            now_ms = 1000 * time.time()
            for record in records:
                name = _decode(record.value).request_id
                if name in due_ms:
                    waits.setdefault(name, now_ms - due_ms[name])
    await asking
    await consumer.stop()
    figures = percentiles(np.array(list(waits.values())))
    return {"events": len(due_ms), "answered": len(waits), "lists": len(waits), **figures}


if __name__ == "__main__":
    meter.report(asyncio.run(work(meter.options())))
