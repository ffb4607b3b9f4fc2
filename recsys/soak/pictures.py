"""Broken and good pictures for the images role, and the account of them: each answered once."""

import asyncio
import importlib.util
import io
import random
from collections import Counter

from aiokafka import AIOKafkaProducer

from recsys.conservation import Account, read_letters, read_topic
from streams import topics
from streams.connection import Connection
from streams.events import HEADER_UPLOAD_ID

ENCODER, ENCODER_ID = "perceptual-hash", "perceptual-hash@1"
READS = (("uploads", topics.IMAGE_UPLOADS), ("pictures", topics.PRODUCT_IMAGES))
ANSWERS = {
    topics.IMAGE_UPLOADS: topics.IMAGE_EMBEDDINGS,
    topics.PRODUCT_IMAGES: topics.ITEM_EMBEDDINGS,
}
GOOD = "good-"  # the names of good pictures begin with it
GOOD_OF = 10  # every tenth is good


def possible() -> bool:
    """Whether the libraries of the images role are here."""
    return all(importlib.util.find_spec(name) for name in ("PIL", "imagehash", "skimage"))


async def send(connection: Connection, prefix: str, rng: random.Random, count: int) -> None:
    """Send so many broken pictures, half as uploads and half as products, and good ones between."""
    async with AIOKafkaProducer(**connection.options(), enable_idempotence=True) as producer:
        good, sent = picture(rng), []
        for number in range(count + count // GOOD_OF):
            whole = number % (GOOD_OF + 1) == GOOD_OF
            name = f"{GOOD if whole else ''}{rng.getrandbits(64):x}".encode()
            topic = tuple(ANSWERS)[number % 2]
            headers = [(HEADER_UPLOAD_ID, name)] if topic is topics.IMAGE_UPLOADS else []
            value = good if whole else mutated(rng, good)
            sent.append(await producer.send(topic.name(prefix), value, key=name, headers=headers))
        await asyncio.gather(*sent)


def picture(rng: random.Random) -> bytes:
    """A small photo."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("RGB", (64, 48), rng.randbytes(64 * 48 * 3)).save(buffer, "JPEG")
    return buffer.getvalue()


def mutated(rng: random.Random, good: bytes) -> bytes:
    """A picture that was cut, flipped, filled, or exchanged in part; a few can still be read."""
    way, at = rng.randrange(5), rng.randrange(2, len(good))
    if way == 0:
        return good[:at]
    if way == 1:
        return good[: at - 1] + rng.randbytes(1) + good[at:]
    if way == 2:
        return rng.randbytes(at)
    if way == 3:
        return good[at:]
    return good[:20] + rng.randbytes(40) + good[60:]


async def check(connection: Connection, prefix: str, partitions: int, account: Account) -> None:
    """Each picture has one vector or one dead letter, each good one its vector.

    The shop's workers know another encoder: each vector of a photo must be a dead letter of theirs.
    """
    for source, answers in ANSWERS.items():
        count = partitions if source.keyed == "user" else 1
        vectors = await read_topic(connection, answers.name(prefix), count)
        found = Counter(record.key.decode() for record in vectors)
        letters = await read_letters(connection, source.name(prefix), count)
        for record in await read_topic(connection, source.name(prefix), count):
            name, place = record.key.decode(), (record.partition, record.offset)
            refused = letters[place]
            account.missing(1 - found[name] - refused, f"the answer to picture {name} at {place}")
            if name.startswith(GOOD):
                account.missing(refused, f"the vector of picture {name} at {place}")
            account.pictures += 1
            account.dead_letters += refused
        if source is topics.IMAGE_UPLOADS:
            wanted = Counter((vector.partition, vector.offset) for vector in vectors)
            refused_there = await read_letters(connection, answers.name(prefix), count)
            account.compare("dead letter of vector", wanted, refused_there)
            account.dead_letters += refused_there.total()
