"""Lanes of the images role, without a broker."""

import pytest

from models import encoder as encoders
from recsys.image_lanes import ImageLanes
from recsys.image_reader import ImageReader
from streams.chunk import Chunk, Position
from streams.events import HEADER_TIMESTAMP
from tests.models.hostile_images import encoded, picture
from tests.records import NOW_MS, record

SOURCE = Position("recsys.product-images.v1", 0)
TARGET = Position("recsys.item-embeddings.v1", 0)
PICTURE = encoded(picture(), "JPEG")


async def written(folder, values, uploads=False):
    """Keys of the vectors that come of these (key, value), and whether each is a tombstone."""
    lanes = ImageLanes(
        ImageReader(encoders.load("colour-histogram", folder)), "recsys", uploads=uploads
    )
    records = [
        record(value, key, SOURCE.topic, 0, offset) for offset, (key, value) in enumerate(values)
    ]
    outcome = await lanes.apply(0, lanes.open(0), [Chunk(SOURCE, 0, records)])
    return [(each.key, each.value is None) for each in outcome.writes.get(TARGET, [])]


@pytest.mark.parametrize(
    "values",
    [
        [(b"a", PICTURE), (b"a", None)],
        [(b"a", None), (b"a", PICTURE)],
        [(b"a", PICTURE), (b"b", PICTURE), (b"a", None), (b"b", None), (b"a", PICTURE)],
    ],
)
async def test_vectors_and_tombstones_keep_the_order_of_their_pictures(tmp_path, values):
    expected = [(key, value is None) for key, value in values]
    assert await written(tmp_path, values) == expected


async def test_a_bad_picture_between_them_shifts_none(tmp_path):
    values = [(b"a", None), (b"b", b"no picture"), (b"c", PICTURE), (b"c", None), (b"d", PICTURE)]
    assert await written(tmp_path, values) == [
        (b"a", True), (b"c", False), (b"c", True), (b"d", False),
    ]  # fmt: skip


@pytest.mark.parametrize("ahead_ms", [1_000, 7 * 86_400_000])
async def test_how_far_ahead_an_upload_may_say_it_is_follows_the_setting(tmp_path, ahead_ms):
    lanes = ImageLanes(
        ImageReader(encoders.load("colour-histogram", tmp_path)), "recsys",
        uploads=True, future_ms_max=ahead_ms,
    )  # fmt: skip
    records = [
        record(PICTURE, b"u1", "recsys.image-uploads.v1", 0, offset,
               headers=[(HEADER_TIMESTAMP, str(NOW_MS + ahead).encode())])
        for offset, ahead in enumerate((ahead_ms, ahead_ms + 1))
    ]  # fmt: skip
    source = Position("recsys.image-uploads.v1", 0)
    outcome = await lanes.apply(0, lanes.open(0), [Chunk(source, 0, records)])
    counts = {position.topic: len(found) for position, found in outcome.writes.items()}
    assert counts == {"recsys.image-embeddings.v1": 1, "recsys.image-uploads.v1.dlq": 1}


def test_a_round_has_no_more_pictures_than_a_few_batches(tmp_path):
    reader = ImageReader(encoders.load("colour-histogram", tmp_path), batch_size=3)
    assert ImageLanes(reader, "recsys", uploads=True).round_records_max == 12
