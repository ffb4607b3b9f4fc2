"""An index of product pictures in a file: built from a folder or from what the topic holds."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka import TopicPartition

from models.encoder import Encoder
from models.image import BadImage, decode
from models.index import SwitchingIndex
from models.index_file import SavedIndex
from models.photos import SUFFIXES, read_rows
from streams import topics
from streams.connection import Connection
from streams.events import ItemEmbedding
from streams.producer import PATIENCE_S
from streams.replay import ReplayError, open_reader, partitions_of
from streams.silence import told

Vector = npt.NDArray[np.float32]
BATCH = 16


class PicturesError(ValueError):
    """A list of pictures cannot be used; the message says why."""


def catalogue_pictures(source: Path) -> Iterator[tuple[str, Path]]:
    """Item ids and picture files, of a CSV with `item_id` and `image`, or of a folder.

    In a folder the id is the file's name without its ending, and `products.csv` is read where
    there is one. Raises `PicturesError` where a picture that is named is not there, or an item is
    named twice or not at all, and `PhotosError` where the list is none.
    """
    if source.is_dir() and (source / "products.csv").exists():
        source = source / "products.csv"
    if source.is_dir():
        seen: dict[str, Path] = {}
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                if path.stem in seen:
                    raise PicturesError(f"{seen[path.stem]} and {path} name one item")
                seen[path.stem] = path
                yield path.stem, path
        return
    if not source.is_file():
        raise PicturesError(f"{source} is neither a file nor a folder")
    named = set[str]()
    for row in read_rows(source, "item_id", "image"):
        item_id, path = row["item_id"], source.parent / row["image"]
        if not path.is_file():
            raise PicturesError(f"{source} names {row['image']}, which is not there")
        if not item_id.strip():
            raise PicturesError(f"{source} names no item for {row['image']}")
        if item_id in named:
            raise PicturesError(f"{source} names the item {item_id} twice")
        named.add(item_id)
        yield item_id, path


class PhotoIndex:
    """Vectors of one encoder by item id."""

    def __init__(self, saved: SavedIndex) -> None:
        self.saved = saved
        self._numbers = {name: number for number, name in enumerate(saved.names)}

    @classmethod
    def empty(cls, encoder_id: str, dim: int) -> "PhotoIndex":
        """Nothing yet."""
        return cls(SavedIndex(SwitchingIndex(dim), encoder_id, [], {}))

    def put(self, item_id: str, vector: Vector) -> None:
        """Adds or replaces one."""
        number = self._numbers.setdefault(item_id, len(self.saved.names))
        if number == len(self.saved.names):
            self.saved.names.append(item_id)
        self.saved.index.put([number], vector[None])

    def remove(self, item_id: str) -> None:
        """Forgets one, if it is there."""
        if item_id in self._numbers:
            self.saved.index.remove([self._numbers[item_id]])

    def vector(self, item_id: str) -> Vector | None:
        """The vector of an item, or None."""
        ids, rows = self.saved.index.items()
        places = np.flatnonzero(ids == self._numbers.get(item_id, -1))
        return rows[places[0]] if len(places) else None

    def search(self, vector: Vector, k: int) -> list[tuple[str, float]]:
        """The nearest items with their cosines."""
        ids, distances = self.saved.index.search(vector, k)
        pairs = zip(ids.tolist(), distances.tolist(), strict=True)
        return [(self.saved.names[number], 1 - distance) for number, distance in pairs]


def add_pictures(
    index: PhotoIndex,
    encoder: Encoder,
    pictures: Sequence[tuple[str, Path]],
    progress: Callable[[int], None],
) -> list[tuple[str, BadImage]]:
    """Encodes pictures into the index; those that are bad, with why."""
    bad = []
    for start in range(0, len(pictures), BATCH):
        good = []
        for item_id, path in pictures[start : start + BATCH]:
            try:
                good.append((item_id, decode(path.read_bytes())))
            except BadImage as error:
                bad.append((item_id, error))
        vectors = encoder.encode([image for _, image in good])
        for (item_id, _), vector in zip(good, vectors, strict=True):
            index.put(item_id, vector)
        progress(min(start + BATCH, len(pictures)))
    return bad


async def follow_topic(
    connection: Connection,
    prefix: str,
    encoder_id: str,
    index: PhotoIndex | None,
    patience_s: float = PATIENCE_S,
) -> PhotoIndex | None:
    """What the topic of product vectors holds, up to its end as it is now.

    A given index goes on from the offsets it reflects. None where there is no vector of this
    encoder. Raises `ReplayError` where no broker answers for so long, and `PicturesError` where the
    index reflects more than the topic holds.
    """
    topic = topics.ITEM_EMBEDDINGS.name(prefix)
    offsets = {} if index is None else dict(index.saved.offsets)
    async with open_reader(connection) as consumer:
        tps = await partitions_of(consumer, topic)
        consumer.assign(tps)
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        for tp in tps:
            if offsets.get(_place(tp), 0) > ends[tp]:
                raise PicturesError(
                    f"{topic} ends before what the index reflects, so it was made anew: "
                    "recsys index build"
                )
            consumer.seek(tp, max(begins[tp], offsets.get(_place(tp), 0)))
        heard_at = time.monotonic()
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            fetched = await consumer.getmany(timeout_ms=500)
            if fetched:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > patience_s:
                raise ReplayError(told(patience_s, connection.bootstrap))
            for records in fetched.values():
                for record in records:
                    index = _take(index, record.key, record.value, encoder_id)
        offsets |= {_place(tp): await consumer.position(tp) for tp in tps}
    if index is not None:
        index.saved.offsets.update(offsets)
    return index


def _place(tp: TopicPartition) -> str:
    return f"{tp.topic}/{tp.partition}"


def _take(
    index: PhotoIndex | None, key: bytes, value: bytes | None, encoder_id: str
) -> PhotoIndex | None:
    if value is None:
        if index is not None:
            index.remove(key.decode())
        return index
    embedding = msgspec.msgpack.decode(value, type=ItemEmbedding)
    if embedding.encoder != encoder_id:
        return index
    vector = np.frombuffer(embedding.vector, "<f4")
    index = index or PhotoIndex.empty(encoder_id, len(vector))
    index.put(embedding.item_id, vector)
    return index
