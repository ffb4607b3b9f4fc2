"""Reading the contract's headers: text, numbers and times, each checked like a field."""

from datetime import datetime

from streams.codec import DecodeError, IncomingRecord, check_id, checked_record_time
from streams.events import ID_LENGTH_MAX, time_ms
from streams.topics import DAY_MS


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


def time(record: IncomingRecord, name: str, future_ms_max: int = DAY_MS) -> int:
    """A header's time in epoch ms; the record's own where it is not there. Raises DecodeError."""
    found = text(record, name)
    if found is None:
        return checked_record_time(name, record.timestamp, record, future_ms_max)
    if found.isascii() and found.isdigit():
        return checked_record_time(name, int(found), record, future_ms_max)
    try:
        moment = datetime.fromisoformat(found)
        if moment.tzinfo is None:
            raise ValueError("no zone")
    except ValueError:
        raise DecodeError("timestamp", name, f"{found[:40]!r} is no RFC 3339 time") from None
    return checked_record_time(name, time_ms(moment), record, future_ms_max)
