"""Item factors on their way: a refit's vectors as records, and back, swapped in all at once.

A refit writes parts and then one record that announces them, in one transaction. Readers collect
parts and change over when the announcement names parts that they hold; until then, and whenever a
part is missing, the factors they have stay in force.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

PART_ITEMS = 2000
ANNOUNCEMENT = b"current"
VERSION = 1

Record = tuple[bytes, bytes | None]


class Part(msgspec.Struct, array_like=True):
    """Vectors of some items: 64-bit keys and float16 rows, little-endian."""

    format: int
    version: str
    keys: bytes
    vectors: bytes
    width: int


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


class FactorsError(Exception):
    """A record of factors that cannot be read."""


def encode(
    announcement: Announcement, keys: NDArray[np.uint64], vectors: NDArray[np.float32]
) -> list[Record]:
    """The records of a refit, the announcement last. `vectors` has shape (n_items, width)."""
    records: list[Record] = []
    for number, start in enumerate(range(0, len(keys), PART_ITEMS)):
        span = slice(start, start + PART_ITEMS)
        part = Part(
            VERSION,
            announcement.version,
            keys[span].astype("<u8").tobytes(),
            vectors[span].astype("<f2").tobytes(),
            vectors.shape[1],
        )
        records.append((f"part-{number}".encode(), msgspec.msgpack.encode(part)))
    records.append((ANNOUNCEMENT, msgspec.json.encode(announcement)))
    return records


class Factors:
    """Collects records of refits, and hands over each that is whole."""

    def __init__(self) -> None:
        self.announcement: Announcement | None = None
        self._parts: dict[bytes, Part] = {}
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
                else:
                    self._parts[key] = _checked(msgspec.msgpack.decode(value, type=Part))
            except msgspec.MsgspecError as error:
                raise FactorsError(str(error)) from error

    def take(self) -> tuple[str, NDArray[np.uint64], NDArray[np.float32]] | None:
        """Version, item keys (n,) and vectors (n, width) of a refit that has just become whole."""
        wanted = self._wanted
        if wanted is None or wanted == self.announcement:
            return None
        parts = [self._parts.get(f"part-{n}".encode()) for n in range(wanted.parts)]
        if any(part is None or part.version != wanted.version for part in parts):
            return None
        whole = [part for part in parts if part is not None]
        keys = np.frombuffer(b"".join(part.keys for part in whole), "<u8").astype(np.uint64)
        packed = np.frombuffer(b"".join(part.vectors for part in whole), "<f2")
        self.announcement = wanted
        return wanted.version, keys, packed.astype(np.float32).reshape(len(keys), wanted.width)


def _checked(record: Any) -> Any:
    if record.format != VERSION:
        raise FactorsError(f"factors of format {record.format}, this reads {VERSION}")
    return record
