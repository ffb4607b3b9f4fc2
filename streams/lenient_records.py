"""Reading every record that a broker takes: what a client makes of a batch must stop nobody.

A broker vouches for a batch's head; in its records clients may write much that aiokafka raises
over each time it is fetched, which holds the partition up for ever, or believes. So a batch that
fails is read once more, by the lengths of its records; offsets are those that the broker gave; and
what unpacks to too much becomes one record that says so.
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords

from streams.unpacking import UnpackError, unpack

log = logging.getLogger(__name__)

RECORDS_MAX = 100_000  # of a batch: millions may be empty, and take no bytes on the wire
_LENGTH_AT = 8  # of a batch: base offset i64, length i32, leader epoch i32, magic i8
_BODY_AT = 12
_MAGIC_AT = 16
_ATTRIBUTES_AT = 21
_CODEC = 0x07
_APPEND_TIME = 0x08
# Base offset; attributes, last offset delta, first and newest timestamp; number of records.
_HEAD = struct.Struct(">q13xhiqq14xi")
_offset = attrgetter("offset")


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


class _Head(NamedTuple):
    """What the broker vouches for."""

    base: int
    attributes: int
    last: int  # offset of the last record, from the base
    first_ms: int
    newest_ms: int
    records: int

    def record(self, place: int, time_ms: int, key: Any, value: Any, headers: Any) -> Any:
        appended = bool(self.attributes & _APPEND_TIME)
        when = self.newest_ms if appended else time_ms
        return _DefaultRecordPy(self.base + place, when, int(appended), key, value, headers)


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
        head = _Head(*_HEAD.unpack_from(self._data, self._start))
        try:
            return iter(_in_place(self._read(head), head))
        except (UnpackError, IndexError) as error:
            why = error if isinstance(error, UnpackError) else "ends in a record"
            told = f"a batch of {head.records} records {why}"
            log.warning("from offset %d on %s", head.base, told)
            return iter([head.record(head.last, head.first_ms, None, told.encode(), [])])

    def _read(self, head: _Head) -> list[Any]:
        if head.records > RECORDS_MAX:
            raise UnpackError(f"has more than {RECORDS_MAX:,}")
        batch, records_at = self._batch, self._start + _HEAD.size
        body: bytes | None = None
        codec = head.attributes & _CODEC
        if codec:
            body = unpack(codec, self._data[records_at : self._stop])
            plain = bytearray(self._data[self._start : records_at])
            struct.pack_into(">h", plain, _ATTRIBUTES_AT, head.attributes & ~_CODEC)
            batch = DefaultRecordBatch(b"".join((plain, body)))
        try:
            return list(batch)
        except (UnicodeDecodeError, CorruptRecordException):
            return _parse(body or self._data[records_at : self._stop], head)


def _parse(body: bytes, head: _Head) -> list[Any]:
    """Records, each of which begins where the length of the one before says."""
    records, at = [], 0
    for _ in range(head.records):
        length, begin = _number(body, at)
        if length < 0:
            raise UnpackError("cannot be told apart")
        records.append(_parse_record(body, begin + 1, head))  # a byte of attributes nobody uses
        at = begin + length
    return records


def _parse_record(body: bytes, at: int, head: _Head) -> Any:
    def part(at: int) -> tuple[bytes | None, int]:
        size, at = _number(body, at)
        return (None, at) if size < 0 else (body[at : at + size], at + size)

    later_ms, at = _number(body, at, 64)
    place, at = _number(body, at)
    key, at = part(at)
    value, at = part(at)
    count, at = _number(body, at)
    headers = []
    for _ in range(count):
        name, at = part(at)
        held, at = part(at)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), held))
    return head.record(place, head.first_ms + later_ms, key, value, headers)


def _number(body: bytes, at: int, bits: int = 32) -> tuple[int, int]:
    """A zigzag number of so many bits, and where it ends. aiokafka's own checks no bound."""
    number = shift = 0
    while True:
        byte = body[at]
        at, number, shift = at + 1, number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            number &= (1 << bits) - 1
            return (number >> 1) ^ -(number & 1), at


def _in_place(records: list[Any], head: _Head) -> list[Any]:
    """At the offsets that the broker gave: all of the batch's, or rising where some were compacted.

    A record that says it lies far ahead would have all others before it count as read.
    """
    said = list(map(_offset, records))
    wanted: Sequence[int] = range(head.base, head.base + head.last + 1)
    if len(records) != len(wanted):
        wanted = _rising(said, head)
    if said == list(wanted):
        return records
    log.warning("a batch at offset %d says others of its %d records", head.base, len(records))
    return [
        _DefaultRecordPy(at, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers))
        for at, r in zip(wanted, records, strict=True)
    ]


def _rising(said: list[int], head: _Head) -> list[int]:
    offsets, least = [], head.base
    for n, offset in enumerate(said):
        most = head.base + head.last - (len(said) - 1 - n)
        offsets.append(min(max(least, offset), most))
        least = offsets[-1] + 1
    return offsets
