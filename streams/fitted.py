"""A record that came compressed can be too large to be written again as it is: it is cut."""

from streams.chunk import Record
from streams.topics import HEADERS_BYTES_MAX

BATCH_BYTES = 1024  # what a batch and its only record are beside key, headers and body, at most
HEADER_BYTES = 10  # the lengths of a header's name and value, at most


def fitted(record: Record, bytes_max: int) -> Record:
    """The record, or as much of it as goes into a message of `bytes_max`.

    Beside the body there is room for HEADERS_BYTES_MAX: the key, and the last headers, which are
    ours. A body that is cut is still longer than any that is read, and so refused all the same.
    """
    if fits(record, bytes_max):
        return record
    room = HEADERS_BYTES_MAX - BATCH_BYTES
    key = record.key[: room // 2] if record.key is not None else None
    room -= len(key or b"")
    kept = []
    for header in reversed(record.headers):
        if (taken := _header_bytes(*header)) <= room:
            kept.append(header)
            room -= taken
    value = record.value[: bytes_max - HEADERS_BYTES_MAX] if record.value is not None else None
    return record._replace(key=key, value=value, headers=kept[::-1])


def fits(record: Record, bytes_max: int) -> bool:
    """Whether a topic that takes messages of `bytes_max` takes it."""
    return _bytes(record) <= bytes_max - BATCH_BYTES


def _bytes(record: Record) -> int:
    headers = sum(_header_bytes(*header) for header in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _header_bytes(name: str, value: bytes | None) -> int:
    return len(name.encode("utf-8", "replace")) + len(value or b"") + HEADER_BYTES
