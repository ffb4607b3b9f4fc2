"""Photos onto their topics, and what comes back: what `recsys upload` and the demo do."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from models.image import BadImage, ImageLimits, decode, encode_jpeg
from streams import codec, topics
from streams.connection import Connection
from streams.events import (
    HEADER_CONTENT_TYPE,
    HEADER_K,
    HEADER_TIMESTAMP,
    HEADER_UPLOAD_ID,
    RankedList,
)
from streams.newest import newest_record
from streams.partition import partition_of
from streams.replay import open_reader, partitions_of

SIDE_PX_MAX = 1024  # more than any encoder looks at
FILE_BYTES_MAX = 100 * 1024 * 1024
OVERHEAD_BYTES = 4096  # of a record beside its value
POLL_MS = 100


class UploadError(ValueError):
    """A photo cannot be sent, or nothing came back; the message says why."""


@dataclass(frozen=True)
class Answer:
    """The list that answers an upload, and how long it took from sending to reading."""

    ranked: RankedList
    seconds: float


def prepare(path: Path, bytes_max: int = topics.IMAGE_BYTES_MAX) -> bytes:
    """A photo's file as a JPEG that the broker and the image role take.

    It is checked as the image role would check it (as it is, and as it will be sent), turned
    upright, scaled down and stripped of what else the file says (place, camera). Raises
    `UploadError`.
    """
    try:
        size_bytes = path.stat().st_size
        if not path.is_file():  # a pipe or a device may have no end
            raise UploadError(f"{path} is no file")
        if size_bytes > FILE_BYTES_MAX:
            raise UploadError(f"{path} is larger than {FILE_BYTES_MAX:,} bytes")
        limits = ImageLimits(FILE_BYTES_MAX, pixels_max=200_000_000, side_px_out=SIDE_PX_MAX)
        image = decode(path.read_bytes(), limits=limits)
        data = encode_jpeg(image, SIDE_PX_MAX, bytes_max - OVERHEAD_BYTES)
    except OSError as error:
        raise UploadError(f"{path} cannot be read: {error.strerror or error}") from error
    except BadImage as bad:
        raise UploadError(f"{path} is no photo we can take: {bad.message}") from bad
    try:
        decode(data)
    except BadImage as bad:
        raise UploadError(f"{path} is too narrow to be scaled down: {bad.message}") from bad
    return data


async def upload(
    connection: Connection, prefix: str, user_id: str, data: bytes, k: int, wait_s: float
) -> Answer:
    """Sends a photo and waits for the list that answers it.

    Raises `UploadError` for an id that no worker takes and where no list comes in time, and
    `ReplayError` where no broker answers.
    """
    try:
        codec.check_id("user_id", user_id)  # first, for it finds what cannot be encoded
        codec.key_id(user_id.encode(), "user_id")
    except codec.DecodeError as error:
        raise UploadError(f"the user's id {error.message}") from error
    topic = topics.RECOMMENDATIONS.name(prefix)
    upload_id = uuid.uuid4().hex
    async with open_reader(connection) as consumer:
        tps = await partitions_of(consumer, topic)
        tp = tps[partition_of(user_id.encode(), len(tps))]
        consumer.assign([tp])
        consumer.seek(tp, (await consumer.end_offsets([tp]))[tp])
        started = time.monotonic()
        headers = [
            (HEADER_CONTENT_TYPE, b"image/jpeg"),
            (HEADER_UPLOAD_ID, upload_id.encode()),
            (HEADER_TIMESTAMP, str(time.time_ns() // 1_000_000).encode()),
            (HEADER_K, str(k).encode()),
        ]
        async with _producer(connection) as producer:
            name = topics.IMAGE_UPLOADS.name(prefix)
            await producer.send_and_wait(name, data, user_id.encode(), headers=headers)
        ranked = await _answer(consumer, upload_id, started + wait_s)
    if ranked is None:
        raise UploadError(
            f"no list came within {wait_s:g} s: is a worker with the roles behaviour and images up?"
        )
    return Answer(ranked, time.monotonic() - started)


async def _answer(consumer: AIOKafkaConsumer, upload_id: str, deadline: float) -> RankedList | None:
    while time.monotonic() < deadline:
        fetched = await consumer.getmany(timeout_ms=POLL_MS)
        for records in fetched.values():
            for record in records:
                ranked = msgspec.json.decode(record.value, type=RankedList)
                if ranked.upload_id == upload_id:
                    return ranked
    return None


async def send_pictures(
    connection: Connection, prefix: str, pictures: Iterable[tuple[str, bytes]]
) -> int:
    """Sends product pictures (item id, JPEG) to their topic; how many were acknowledged."""
    topic = topics.PRODUCT_IMAGES.name(prefix)
    headers = [(HEADER_CONTENT_TYPE, b"image/jpeg")]
    waiting = []
    async with _producer(connection) as producer:
        for item_id, data in pictures:
            waiting.append(await producer.send(topic, data, item_id.encode(), headers=headers))
        await asyncio.gather(*waiting)
    return len(waiting)


async def pictures_of(
    connection: Connection, prefix: str, item_ids: Sequence[str]
) -> dict[str, bytes]:
    """The newest pictures of these items, of those that have one."""
    topic = topics.PRODUCT_IMAGES.name(prefix)
    found = await asyncio.gather(
        *(newest_record(connection, topic, item_id.encode()) for item_id in item_ids)
    )
    return {
        item_id: record.value
        for item_id, record in zip(item_ids, found, strict=True)
        if record is not None and record.value is not None
    }


@asynccontextmanager
async def _producer(connection: Connection) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **connection.options(),
        enable_idempotence=True,
        max_request_size=2 * topics.IMAGE_BYTES_MAX,
    )
    try:
        await producer.start()
        yield producer
    except KafkaError as error:
        raise UploadError(f"{connection.bootstrap} did not take it: {error}") from error
    finally:
        await producer.stop()
