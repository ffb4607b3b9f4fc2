"""Faust as its documentation shows it: an agent, a table, a send an event.

Options: `bootstrap`, `events`, `out` (topics), `group`, `partitions`, `until_events`, `data_dir`,
`take` (batch size, 0: event by event).
"""

import asyncio
import logging
from typing import Any

import faust

from benchmarks import meter, small_work


def app_of(given: dict[str, Any], watch: meter.Meter, end: asyncio.Event) -> faust.App:
    """The app with its one agent."""
    app = faust.App(
        given["group"], broker=f"kafka://{given['bootstrap']}", store="memory://",
        processing_guarantee="exactly_once", web_enabled=False, datadir=given["data_dir"],
        topic_partitions=given["partitions"], consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )  # fmt: skip
    source = app.topic(given["events"], key_type=bytes, value_type=bytes, value_serializer="raw",
                       key_serializer="raw")  # fmt: skip
    out = app.topic(given["out"], key_type=bytes, value_type=bytes, value_serializer="raw",
                    key_serializer="raw")  # fmt: skip
    rings = app.Table("rings", default=lambda: [0, []], partitions=given["partitions"],
                      use_partitioner=True)  # fmt: skip
    done = 0

    async def one(key: bytes, value: bytes) -> None:
        nonlocal done
        watch.start()
        event = small_work.decode(value)
        count, ring = rings[event.user_id]
        ring = [*ring, event.item_id][-small_work.RING :]
        rings[event.user_id] = [count + 1, ring]
        body = small_work.answer(f"{event.user_id}-{count}", event.user_id, count + 1, ring)
        await out.send(key=key, value=body)
        done += 1
        if done % 10 == 0:
            watch.seen(done)
        if done >= given["until_events"]:
            watch.seen(done)
            end.set()

    async def per_event(stream: Any) -> None:
        async for key, value in stream.items():
            await one(key, value)

    async def per_batch(stream: Any) -> None:
        async for batch in stream.take(given["take"], within=0.1):
            for value in batch:
                await one(small_work.decode(value).user_id.encode(), value)

    app.agent(source)(per_batch if given["take"] else per_event)
    return app


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Run the app until the log is read."""
    watch, end = meter.Meter(), asyncio.Event()
    app = app_of(given, watch, end)
    await app.start()
    await end.wait()
    figures = watch.figures()
    await app.stop()
    return figures


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    meter.report(asyncio.run(work(meter.options())))
