"""Dead letters: a record that could not be read, kept whole, with where it lay and why.

The dead letter has the original key, value and headers; ours are added beside them. Reading it
back gives the original again, so that `replay --dlq` can send it once more.
"""

from dataclasses import dataclass

from streams.chunk import Record
from streams.codec import DecodeError, IncomingRecord
from streams.events import (
    HEADER_CLOUDEVENT_ID,
    HEADER_DLQ_FIELD,
    HEADER_DLQ_MESSAGE,
    HEADER_DLQ_OFFSET,
    HEADER_DLQ_PARTITION,
    HEADER_DLQ_REASON,
    HEADER_DLQ_TIMESTAMP,
    HEADER_DLQ_TOPIC,
    HEADER_ORIGIN,
)

_OURS = (
    HEADER_DLQ_TOPIC,
    HEADER_DLQ_PARTITION,
    HEADER_DLQ_OFFSET,
    HEADER_DLQ_TIMESTAMP,
    HEADER_DLQ_REASON,
    HEADER_DLQ_FIELD,
    HEADER_DLQ_MESSAGE,
)


@dataclass(frozen=True)
class DeadLetter:
    """What a dead letter tells: the original record, where it lay, and why it was refused."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    reason: str
    field: str
    message: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def resend(self, value: bytes | None) -> Record:
        """The record to send back to `topic`, with a body that may have been mended.

        Where no header names the event, its first position does, so that sending the same dead
        letter twice counts once. A body's own event_id goes before both.
        """
        headers = tuple(header for header in self.headers if header[0] != HEADER_ORIGIN)
        if not any(name == HEADER_CLOUDEVENT_ID for name, _ in headers):
            here = f"{self.topic}/{self.partition}/{self.offset}".encode()
            headers += ((HEADER_CLOUDEVENT_ID, dict(self.headers).get(HEADER_ORIGIN, here)),)
        return Record(self.key, value, headers)


def dead_letter(record: IncomingRecord, error: DecodeError) -> Record:
    """The dead letter of a record, for the topic `dead_letter_name(record.topic)`."""
    original = tuple((name, value or b"") for name, value in record.headers if name not in _OURS)
    why = (
        record.topic,
        str(record.partition),
        str(record.offset),
        str(record.timestamp),
        error.reason,
        error.field,
        error.message,
    )
    ours = tuple((name, text.encode()) for name, text in zip(_OURS, why, strict=True))
    return Record(record.key, record.value, original + ours)


def parse(record: IncomingRecord) -> DeadLetter:
    """Read a dead letter back. Raises DecodeError where it lacks one of our headers."""
    found = {name: value or b"" for name, value in record.headers if name in _OURS}
    for name in _OURS:
        if name not in found:
            raise DecodeError("missing", name, "the header is missing: not a dead letter of ours")
    try:
        topic, partition, offset, timestamp, reason, field, message = (
            found[name].decode() for name in _OURS
        )
        position = int(partition), int(offset), int(timestamp)
    except ValueError:
        raise DecodeError("type", "headers", "do not hold what a dead letter's do") from None
    original = tuple((name, value or b"") for name, value in record.headers if name not in _OURS)
    return DeadLetter(topic, *position, reason, field, message, record.key, record.value, original)
