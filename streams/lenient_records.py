"""Reading every record that a broker takes: header names that are not UTF-8 must stop nobody.

A broker does not look into header names, and aiokafka raises UnicodeDecodeError over such a record
each time it is fetched, so that one of them would hold its partition up for ever. Here its batch is
read once more, with the name spelt out (`\\xff`).
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH_AT = 8  # of a batch: base offset i64, length i32, leader epoch i32, magic i8
_BODY_AT = 12
_MAGIC_AT = 16


def install() -> None:
    """Let every consumer of this process read so."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords:
    """In the place of aiokafka's `MemoryRecords`: the batches of one fetch of one partition."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = data
        self._at = 0

    def has_next(self) -> bool:
        """Whether there is another batch."""
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        """Bytes of all batches."""
        return int(self._records.size_in_bytes())

    def next_batch(self) -> Any:
        """The next batch, None after the last."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        self._at += _BODY_AT + struct.unpack_from(">i", self._data, start + _LENGTH_AT)[0]
        if self._data[start + _MAGIC_AT] < 2:  # formats without headers
            return batch
        return _Batch(batch, self._data, start, self._at)


class _Batch:
    """A batch whose records are read all at once, leniently where that fails."""

    __slots__ = ("_batch", "_data", "_start", "_stop")

    def __init__(self, batch: Any, data: bytes, start: int, stop: int) -> None:
        self._batch, self._data, self._start, self._stop = batch, data, start, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            batch = _DefaultRecordBatchPy(self._data[self._start : self._stop])
            batch._maybe_uncompress()
            batch._buffer = _Spelt(batch._buffer)
            return iter(list(batch))


class _Spelt(bytearray):
    """Bytes whose parts, decoded, spell out what is not UTF-8."""

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _Spelt(part) if isinstance(at, slice) else part

    def decode(self, *_: Any) -> str:
        return bytes(self).decode("utf-8", "backslashreplace")
