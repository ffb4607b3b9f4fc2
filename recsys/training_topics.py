"""What the topics hold to train on: pictures with categories, and products' vectors."""

from pathlib import Path

import numpy as np

from models.image import BadImage
from models.photos import Photo
from recsys.factors import Factors
from recsys.ids import key_of
from recsys.mapping_training import ProductVectors
from recsys.photo_index import follow_topic
from recsys.training_data import TrainingError
from streams import codec, topics
from streams.codec import DecodeError
from streams.connection import Connection
from streams.replay import read_topic


async def read_pictures(connection: Connection, prefix: str) -> list[Photo]:
    """The newest picture of each product that the catalogue gives a category; in memory alone.

    A picture that cannot be decoded is left out: the images role has made a dead letter of it.
    Raises `TrainingError` where there is none, and `ReplayError` where no broker answers.
    """
    categories = await _categories(connection, prefix)
    found: dict[str, bytes] = {}
    async for records in read_topic(connection, topics.PRODUCT_IMAGES.name(prefix)):
        for record in records:
            try:
                item_id = codec.key_id(record.key, "item_id")
            except DecodeError:
                continue
            if record.value is None:
                found.pop(item_id, None)
            elif item_id in categories:
                found[item_id] = record.value
    photos = [
        Photo(Path(item_id), categories[item_id], item_id, data=data)
        for item_id, data in sorted(found.items())
    ]
    good = [photo for photo in photos if _opens(photo)]
    if not good:
        raise TrainingError(
            f"the topics of {prefix} hold no product with both a category and a picture"
        )
    return good


async def _categories(connection: Connection, prefix: str) -> dict[str, str]:
    categories: dict[str, str] = {}
    async for records in read_topic(connection, topics.CATALOGUE.name(prefix)):
        products, good, _ = codec.decode_chunk(topics.CATALOGUE, records)
        for product, record in zip(products, good, strict=True):
            if product is None or not product.category:
                categories.pop(codec.key_id(record.key, "item_id"), None)
            else:
                categories[product.item_id] = product.category
    return categories


def _opens(photo: Photo) -> bool:
    try:
        photo.open()
    except BadImage:
        return False
    return True


async def read_vectors(
    connection: Connection, prefix: str, own_prefix: str, encoder_id: str
) -> ProductVectors:
    """Products that have a picture's vector of this encoder and factors of the refit in force.

    Raises `TrainingError` where either topic holds none, and `ReplayError` as above.
    """
    index = await follow_topic(connection, prefix, encoder_id, None)
    if index is None:
        raise TrainingError(f"the topic holds no vector of {encoder_id}")
    collected = Factors()
    async for records in read_topic(connection, topics.ITEM_FACTORS.name(own_prefix)):
        collected.load_records((record.key, record.value) for record in records)
    refit = collected.take()
    if refit is None:
        raise TrainingError("no refit has written factors yet")
    ids, images = index.saved.index.items()
    keys = np.array([key_of(index.saved.names[number]) for number in ids.tolist()], np.uint64)
    _, of_pictures, of_factors = np.intersect1d(keys, refit.keys, return_indices=True)
    return ProductVectors(images[of_pictures], refit.vectors[of_factors])
