"""Reading the contract's headers: text, numbers and times, each checked like a field."""

from datetime import datetime

from streams.codec import DecodeError, IncomingRecord, check_id, checked_time
from streams.events import ID_LENGTH_MAX, time_ms


def text(record: IncomingRecord, name: str) -> str | None:
    """A header's text, None where it is not there. Raises DecodeError."""
    for header, value in record.headers:
        if header == name and value:
            try:
                found = value.decode()
            except UnicodeDecodeError:
                raise DecodeError("encoding", name, "the header is not UTF-8 text") from None
            if len(found) > ID_LENGTH_MAX:
                raise DecodeError("id", name, f"is longer than {ID_LENGTH_MAX} characters")
            check_id(name, found)
            return found
    return None


def number(record: IncomingRecord, name: str, least: int, most: int) -> int | None:
    """A header's number in its bounds, None where it is not there. Raises DecodeError."""
    found = text(record, name)
    if found is None:
        return None
    if not (found.isascii() and found.isdigit() and least <= int(found) <= most):
        raise DecodeError("range", name, f"is {found[:32]!r}, not a number from {least} to {most}")
    return int(found)


def time(record: IncomingRecord, name: str) -> int:
    """A header's time in epoch ms; the record's own where it is not there. Raises DecodeError."""
    found = text(record, name)
    if found is None:
        return record.timestamp
    if found.isascii() and found.isdigit():
        return checked_time(name, int(found))
    try:
        moment = datetime.fromisoformat(found)
        if moment.tzinfo is None:
            raise ValueError("no zone")
    except ValueError:
        raise DecodeError("timestamp", name, f"{found[:40]!r} is no RFC 3339 time") from None
    return checked_time(name, time_ms(moment))
