"""Dead letters: a record that could not be read, kept whole, with where it lay and why.

The dead letter has the original key, value and headers; ours are added beside them. Reading it
back gives the original again, so that `replay --dlq` can send it once more.
"""

from collections.abc import Sequence
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
    HEADER_DLQ_RESOLVED,
    HEADER_DLQ_TIMESTAMP,
    HEADER_DLQ_TOPIC,
    HEADER_ORIGIN,
)
from streams.fitted import fitted
from streams.topics import topic_of

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
        here = f"{self.topic}/{self.partition}/{self.offset}"
        return Record(self.key, value, identified(self.headers, here))


def identified(
    headers: Sequence[tuple[str, bytes]], position: str
) -> tuple[tuple[str, bytes], ...]:
    """The headers of a record that is sent again, with an id that tells it is the same event."""
    kept = tuple(header for header in headers if header[0] != HEADER_ORIGIN)
    if any(name == HEADER_CLOUDEVENT_ID for name, _ in kept):
        return kept
    first = dict(headers).get(HEADER_ORIGIN, position.encode())
    return (*kept, (HEADER_CLOUDEVENT_ID, first))


def resolved(letter: IncomingRecord) -> Record:
    """The record that says, in the same topic, that a dead letter was sent back."""
    position = f"{letter.partition}/{letter.offset}"
    return Record(None, None, ((HEADER_DLQ_RESOLVED, position.encode()),))


def resolves(record: IncomingRecord) -> str | None:
    """The "partition/offset" of the dead letter that this record marks as sent back, or None.

    A mark has that header alone: among others it is a client's, of a letter.
    """
    if record.key is not None or record.value is not None or len(record.headers) != 1:
        return None
    value = dict(record.headers).get(HEADER_DLQ_RESOLVED)
    return value.decode("utf-8", "replace") if value is not None else None


def dead_letter(record: IncomingRecord, error: DecodeError) -> Record:
    """The dead letter of a record, for the topic `dead_letter_name(record.topic)`.

    It has what the topic has room for: a record that came compressed can be larger than its limit.
    """
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
    letter = Record(record.key, record.value, original + ours)
    return fitted(letter, topic_of(record.topic).copy_bytes_max)


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
