"""Item factors on their way: a refit's vectors and weights as records, and back, swapped at once.

A refit writes parts and then one record that announces them, in one transaction. Readers collect
parts and change over when the announcement names parts that they hold; until then, and whenever a
part is missing, the factors they have stay in force.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.ease import Weights
from models.mapping import ImageMapping

PART_ITEMS = 2000
ANNOUNCEMENT = b"current"
MAPPING = b"mapping"
VERSION = 1

Record = tuple[bytes, bytes | None]


class Part(msgspec.Struct, array_like=True):
    """Vectors and weights of some items: 64-bit keys and float16 rows, little-endian.

    `neighbours` are 32-bit places among the items of all parts; refits before 2026-12 have none.
    """

    format: int
    version: str
    keys: bytes
    vectors: bytes
    width: int
    neighbours: bytes = b""
    weights: bytes = b""
    neighbours_width: int = 0


class Announcement(msgspec.Struct):
    """Which refit is in force: `reflects` is the offset of each state partition it had read."""

    format: int
    version: str
    parts: int
    items: int
    users: int
    width: int
    created_ms: int
    reflects: dict[str, int]
    mapped: bool = False


class MappingRecord(msgspec.Struct, array_like=True):
    """The map from one encoder's vectors into the space of these factors; float32 arrays."""

    format: int
    version: str
    encoder: str
    penalty: float
    image_mean: bytes
    matrix: bytes
    factor_mean: bytes


@dataclass(frozen=True)
class Refit:
    """A refit that is whole: item keys (n,), vectors (n, width), weights, the map if one fitted.

    `mapping` goes from vectors of `encoder` into the same space.
    """

    version: str
    keys: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    mapping: ImageMapping | None = None
    encoder: str = ""
    weights: Weights | None = None

    def with_pictures(
        self, keys: NDArray[np.uint64], pictures: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """All item keys and vectors: a product nobody has touched gets that of its picture."""
        if self.mapping is None or not len(keys) or pictures.shape[1] != len(self.mapping.matrix):
            return self.keys, self.vectors
        cold = ~np.isin(keys, self.keys)
        mapped = self.mapping(pictures[cold])
        return np.concatenate([self.keys, keys[cold]]), np.concatenate([self.vectors, mapped])


class FactorsError(Exception):
    """A record of factors that cannot be read."""


def encode(announcement: Announcement, refit: Refit) -> list[Record]:
    """The records of a refit, the announcement last."""
    keys, vectors, mapping = refit.keys, refit.vectors, refit.mapping
    records: list[Record] = []
    for number, start in enumerate(range(0, len(keys), PART_ITEMS)):
        span = slice(start, start + PART_ITEMS)
        part = Part(
            VERSION,
            announcement.version,
            keys[span].astype("<u8").tobytes(),
            vectors[span].astype("<f2").tobytes(),
            vectors.shape[1],
            *_packed(refit.weights, span),
        )
        records.append((f"part-{number}".encode(), msgspec.msgpack.encode(part)))
    if mapping is not None:
        record = MappingRecord(
            VERSION,
            announcement.version,
            refit.encoder,
            mapping.penalty,
            mapping.image_mean.astype("<f4").tobytes(),
            mapping.matrix.astype("<f4").tobytes(),
            mapping.factor_mean.astype("<f4").tobytes(),
        )
        records.append((MAPPING, msgspec.msgpack.encode(record)))
    records.append((ANNOUNCEMENT, msgspec.json.encode(announcement)))
    return records


class Factors:
    """Collects records of refits, and hands over each that is whole."""

    def __init__(self) -> None:
        self.announcement: Announcement | None = None
        self._parts: dict[bytes, Part] = {}
        self._mapping: MappingRecord | None = None
        self._wanted: Announcement | None = None

    def load_records(self, records: Iterable[Record]) -> None:
        """Take records in the order of the log. Raises FactorsError for what is not a refit's."""
        for key, value in records:
            if value is None:
                self._parts.pop(key, None)
                continue
            try:
                if key == ANNOUNCEMENT:
                    self._wanted = _checked(msgspec.json.decode(value, type=Announcement))
                elif key == MAPPING:
                    self._mapping = _checked(msgspec.msgpack.decode(value, type=MappingRecord))
                else:
                    self._parts[key] = _checked(msgspec.msgpack.decode(value, type=Part))
            except msgspec.MsgspecError as error:
                raise FactorsError(str(error)) from error

    def take(self) -> Refit | None:
        """A refit that has just become whole."""
        wanted = self._wanted
        if wanted is None or wanted == self.announcement:
            return None
        parts = [self._parts.get(f"part-{n}".encode()) for n in range(wanted.parts)]
        mapping = self._mapping if wanted.mapped else None
        if any(part is None or part.version != wanted.version for part in parts):
            return None
        if wanted.mapped and (mapping is None or mapping.version != wanted.version):
            return None
        whole = [part for part in parts if part is not None]
        keys = np.frombuffer(b"".join(part.keys for part in whole), "<u8").astype(np.uint64)
        packed = np.frombuffer(b"".join(part.vectors for part in whole), "<f2")
        vectors = packed.astype(np.float32).reshape(len(keys), wanted.width)
        weights = _unpacked(whole)
        self.announcement = wanted
        if mapping is None:
            return Refit(wanted.version, keys, vectors, weights=weights)
        matrix = np.frombuffer(mapping.matrix, "<f4").reshape(-1, wanted.width)
        image_mean, factor_mean = (
            np.frombuffer(mean, "<f4") for mean in (mapping.image_mean, mapping.factor_mean)
        )
        fitted = ImageMapping(image_mean, matrix, factor_mean, mapping.penalty)
        return Refit(wanted.version, keys, vectors, fitted, mapping.encoder, weights)


def _packed(weights: Weights | None, span: slice) -> tuple[bytes, bytes, int]:
    if weights is None:
        return b"", b"", 0
    neighbours, values = weights.neighbours[span], weights.values[span]
    return (
        neighbours.astype("<i4").tobytes(), values.astype("<f2").tobytes(), neighbours.shape[1]
    )  # fmt: skip


def _unpacked(parts: Sequence[Part]) -> Weights | None:
    width = parts[0].neighbours_width if parts else 0
    if not width:
        return None
    neighbours = np.frombuffer(b"".join(part.neighbours for part in parts), "<i4")
    values = np.frombuffer(b"".join(part.weights for part in parts), "<f2")
    return Weights(
        neighbours.astype(np.int32).reshape(-1, width), values.astype(np.float32).reshape(-1, width)
    )


def _checked(record: Any) -> Any:
    if record.format != VERSION:
        raise FactorsError(f"factors of format {record.format}, this reads {VERSION}")
    return record
