"""From a photo's upload to the list that answers it, beside a stream of behaviour events.

The uploader keeps its schedule whatever the worker does: a photo's time is when it was due, and a
photo that is not answered counts as one that took as long as was waited. One worker has all roles.
"""

import asyncio
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from PIL import Image

from benchmarks import workers
from benchmarks.bench import Bench
from benchmarks.contenders.list_reader import consumer_of
from benchmarks.process import Contender
from recsys.demo_photos import sample_catalogue
from recsys.photo_index import follow_topic
from recsys.settings import Settings
from recsys.uploads import send_pictures
from streams import codec, topics
from streams.events import HEADER_CONTENT_TYPE, HEADER_UPLOAD_ID, Product, RankedList

PARTITIONS = 4
USERS, ITEMS = 5_000, 4_000
WAIT_S = 30.0
LEAD_S = 8.0  # events come for so long before the first photo


def measure(
    bench: Bench, photos: Sequence[bytes], *, events_per_s: int, uploads_per_s: float, seconds: int
) -> dict[str, Any]:
    """Percentiles in ms over all uploads, and how late the two producers were at most."""
    prefix = bench.fresh("uploads")
    workers.make_topics(bench, prefix, PARTITIONS)
    asyncio.run(_fill_catalogue(bench, prefix))
    roles = ["behaviour", "items", "images"]
    worker = workers.WorkerProcess(bench, prefix, PARTITIONS, roles=roles)
    try:
        worker.until_ready()
        asyncio.run(_until_pictures_are_read(bench, prefix))
        events = Contender("open_loop", {
            "bootstrap": bench.connection.bootstrap, "topic": topics.BEHAVIOUR.name(prefix),
            "partitions": PARTITIONS, "rate": events_per_s, "seconds": seconds + LEAD_S,
            "users": USERS, "items": ITEMS, "seed": 2,
        })  # fmt: skip
        time.sleep(LEAD_S)
        waits, late = asyncio.run(_upload(bench, prefix, photos, uploads_per_s, seconds))
        sent = events.finish()
    finally:
        worker.stop()
    times = [WAIT_S * 1e3 if wait is None else wait for wait in waits]
    return {
        "photos": len(waits),
        "answered": sum(wait is not None for wait in waits),
        **{f"p{q}_ms": round(float(np.percentile(times, q))) for q in (50, 95, 99)},
        "max_ms": round(max(times)),
        "uploader_late_ms": round(late),
        "producer_late_ms": round(sent["late_ms_max"]),
    }


async def _fill_catalogue(bench: Bench, prefix: str) -> None:
    rows, pictures = sample_catalogue()
    async with AIOKafkaProducer(**bench.connection.options()) as producer:
        for row in rows:
            product = Product(item_id=row["item_id"], title=row["title"], category=row["category"])
            name = topics.CATALOGUE.name(prefix)
            await producer.send_and_wait(name, codec.encode(product), product.item_id.encode())
    await send_pictures(bench.connection, prefix, pictures.items())


async def _until_pictures_are_read(bench: Bench, prefix: str) -> None:
    wanted = len(sample_catalogue()[1])
    deadline = time.monotonic() + workers.CATCH_UP_S
    index = None
    while index is None or len(index.saved.index) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError("the pictures were not read")
        await asyncio.sleep(0.5)
        encoder_id = Settings().images.encoder_id
        index = await follow_topic(bench.connection, prefix, encoder_id, index)


async def _upload(
    bench: Bench, prefix: str, photos: Sequence[bytes], per_s: float, seconds: int
) -> tuple[list[float | None], float]:
    """Each upload's wait in ms (None: not answered), and how late the worst was sent."""
    lists = topics.RECOMMENDATIONS.name(prefix)
    consumer = await consumer_of(bench.connection.bootstrap, lists, at_end=True)
    for tp in consumer.assignment():
        await consumer.position(tp)
    total = int(per_s * seconds)
    due_ms: dict[str, float] = {}
    waits: dict[str, float] = {}
    late = 0.0
    target = topics.IMAGE_UPLOADS.name(prefix)

    async def read() -> None:
        deadline = time.monotonic() + seconds + WAIT_S
        while len(waits) < total and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                now_ms = 1e3 * time.time()
                for record in records:
                    ranked = msgspec.json.decode(record.value, type=RankedList)
                    if ranked.upload_id in due_ms:
                        waits[ranked.upload_id] = now_ms - due_ms[ranked.upload_id]

    async with AIOKafkaProducer(
        **bench.connection.options(), max_request_size=topics.IMAGE_BYTES_MAX
    ) as producer:
        reading = asyncio.create_task(read())
        begin = time.time() + 0.2
        for number in range(total):
            due = begin + number / per_s
            await asyncio.sleep(max(0.0, due - time.time()))
            late = max(late, 1e3 * (time.time() - due))
            name = f"photo-{number}"
            due_ms[name] = 1e3 * due
            headers = [(HEADER_UPLOAD_ID, name.encode()), (HEADER_CONTENT_TYPE, b"image/jpeg")]
            user = f"u{number * 7 % USERS}".encode()
            await producer.send(target, photos[number % len(photos)], user, headers=headers)
        await reading
    await consumer.stop()
    return [waits.get(name) for name in due_ms], late


def as_sent(paths: Sequence[Path], side_px: int = 1024) -> list[bytes]:
    """Photos as JPEG files with this longer side, which is what `recsys upload` sends at most."""
    files = []
    for path in paths:
        with Image.open(path) as image:
            scale = side_px / max(image.size)
            size = tuple(round(side * scale) for side in image.size)
            buffer = BytesIO()
            image.convert("RGB").resize((size[0], size[1])).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files
