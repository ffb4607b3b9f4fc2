"""Records as a consumer hands them over, and batches as they go over the wire, made by hand."""

import json
import struct
from collections.abc import Sequence
from typing import Any

from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import ConsumerRecord

NOW_MS = 1_700_000_000_000
EVENT = {"user_id": "u1", "item_id": "i1", "type": "view", "timestamp": NOW_MS}


def record(
    value: bytes | None,
    key: bytes | None = b"u1",
    topic: str = "recsys.behaviour.v1",
    partition: int = 3,
    offset: int = 17,
    timestamp: int = NOW_MS,
    headers: Sequence[tuple[str, bytes]] = (),
) -> ConsumerRecord:
    """One record of a topic."""
    return ConsumerRecord(
        topic, partition, offset, timestamp, 0, key, value, None, -1, -1, tuple(headers)
    )


def body(**changes: Any) -> bytes:
    """A behaviour event's bytes with some fields changed; None leaves a field out."""
    fields = {name: value for name, value in (EVENT | changes).items() if value is not None}
    return json.dumps(fields).encode()


def varint(number: int) -> bytes:
    """A zigzag number."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def raw_record(
    place: int, *, attributes: int = 0, key: bytes = b"k", value: bytes = b"v",
    headers: bytes = b"\x00", later_ms: int = 0,
) -> bytes:  # fmt: skip
    """A record at some place in its batch, as no client of ours writes it."""
    body = bytes([attributes]) + varint(later_ms) + varint(place)
    body += varint(len(key)) + key + varint(len(value)) + value + headers
    return varint(len(body)) + body


def raw_batch(
    *records: bytes, compress: Any = None, last: int | None = None, count: int | None = None,
    base: int = 50, time_ms: int = 1000,
) -> bytes:  # fmt: skip
    """A batch whose head is as a broker leaves it; its records are the client's own."""
    codec, pack = compress or (0, bytes)
    last = len(records) - 1 if last is None else last
    count = len(records) if count is None else count
    after = struct.pack(">hiqqqhii", codec, last, time_ms, time_ms + 1000, -1, -1, -1, count)
    after += bytes(pack(b"".join(records)))
    rest = struct.pack(">ibI", -1, 2, calc_crc32c(after)) + after
    return struct.pack(">qi", base, len(rest)) + rest
