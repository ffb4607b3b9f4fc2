"""Behaviour logs: files of events in whatever columns they have, read as events of the contract.

Every row becomes a `BehaviourEvent` or, in its place, the `DecodeError` that says what is wrong
with it. A row without an event_id of its own gets the file's digest and its line number, so that
a row sent twice counts once, as far back as ids are remembered (a user's last 16).
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from recsys.log_columns import EVENT_COLUMNS, plain, resolve
from recsys.log_sources import SAMPLE_ROWS, LogError, Source, open_source
from streams.codec import DecodeError, check_event, invalid
from streams.events import BehaviourEvent, time_ms

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
TIME_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns", "iso")
_REQUIRED = ("user_id", "item_id", "timestamp")
_RATINGS = frozenset({"rating", "score", "stars"})
_IDS = frozenset({"user_id", "item_id", "event_id", "session_id"})


class BehaviourLog:
    """A file of behaviour. Iterating gives each row's line number and its event, or its error.

    `mapping` says which column holds a field, or after a colon its constant; fields that it leaves
    out are found by the columns' names. `notes` says in sentences what was concluded.
    """

    def __init__(
        self,
        path: Path,
        mapping: Mapping[str, str] | None = None,
        time_unit: TimeUnit | None = None,
    ) -> None:
        self.path = path
        self.source: Source = open_source(path)
        self.size_bytes = path.stat().st_size
        with path.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = resolve(self.source, path.name, EVENT_COLUMNS, _REQUIRED, mapping or {})
        self.columns, self.constants = found.columns, found.constants
        self.notes = found.notes
        if "type" not in self.columns and "type" not in self.constants:
            rated = plain(self.columns.get("value", "")) in _RATINGS
            self.constants["type"] = "rating" if rated else "view"
            self.notes.append(f"every event is taken for a {self.constants['type']}")
        self.time_unit: TimeUnit = time_unit or self._tell_time_unit()

    def _tell_time_unit(self) -> TimeUnit:
        column = self.columns.get("timestamp")
        values = (
            [row[0] for _, row in islice(self.source.rows([column]), SAMPLE_ROWS)
             if not isinstance(row, DecodeError) and row[0] not in (None, "")]
            if column else [self.constants["timestamp"]]
        )  # fmt: skip
        unit = tell_time_unit(values, self.source.typed)
        if unit not in ("iso", "ms") or column is None:
            self.notes.append(f"timestamps are taken for {_UNIT_NAMES[unit]}")
        return unit

    def __iter__(self) -> Iterator[tuple[int, BehaviourEvent | DecodeError]]:
        fields = list(self.columns)
        names = list(self.columns.values())
        time_at = fields.index("timestamp") if "timestamp" in self.columns else None
        to_ms = _CONVERTERS[self.time_unit]
        constants: dict[str, Any] = dict(self.constants)
        if time_at is None:
            constants["timestamp"] = to_ms(constants["timestamp"])
        stem = self.digest[:16]
        typed = self.source.typed
        convert = msgspec.convert
        for number, row in self.source.rows(names):
            if isinstance(row, DecodeError):
                yield number, row
                continue
            given = dict(zip(fields, row, strict=True))
            if "" in row or None in row:
                given = {field: value for field, value in given.items() if value not in ("", None)}
            given.update(constants)
            try:
                if time_at is not None and "timestamp" in given:
                    given["timestamp"] = to_ms(given["timestamp"])
                if typed:
                    _spell_ids(given)
                event = convert(given, BehaviourEvent, strict=False)
                if event.event_id is None:
                    event.event_id = f"{stem}-{number}"
                check_event(event)
            except DecodeError as error:
                yield number, error
            except msgspec.ValidationError as error:
                yield number, invalid(error)
            else:
                yield number, event

    def position(self) -> int:
        """Bytes of `size_bytes` read so far."""
        return self.source.position()


def tell_time_unit(values: Sequence[Any], typed: bool = False) -> TimeUnit:
    """The unit of a sample of times, by their size. Raises LogError where they do not agree.

    In a typed file milliseconds and text may be mixed, as the contract allows.

    >>> tell_time_unit(["964982703"]), tell_time_unit([1700000000000])
    ('s', 'ms')
    """
    units: dict[TimeUnit, Any] = {}
    for value in values:
        units.setdefault(_unit_of(value), value)
    if not units:
        raise LogError("there is no row, or none with a timestamp; else say it with --time-unit")
    if typed and units.keys() == {"ms", "iso"}:
        return "iso"
    if len(units) > 1:
        told = " and ".join(f"{value!r} looks like {unit}" for unit, value in units.items())
        raise LogError(f"timestamps do not agree, {told}: say it with --time-unit")
    return next(iter(units))


def _unit_of(value: Any) -> TimeUnit:
    try:
        size = abs(float(value))
    except (TypeError, ValueError):
        return "iso"
    if size < 1e11:
        return "s"
    if size < 1e14:
        return "ms"
    return "us" if size < 1e17 else "ns"


def _spell_ids(given: dict[str, Any]) -> None:
    """Ids that a typed file holds as numbers become text."""
    for field in _IDS & given.keys():
        given[field] = spell_id(given[field])


def spell_id(value: Any) -> Any:
    """An id that is a whole number as its digits, anything else as it is.

    pandas makes a column of integers floats where one is missing, and databases give Decimals.

    >>> spell_id(12), spell_id(12.0), spell_id(12.5), spell_id("12.0")
    ('12', '12', 12.5, '12.0')
    """
    if type(value) is int:
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return value


_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
               "iso": "ISO 8601 text"}  # fmt: skip


def _number(value: Any, times: int = 1, over: int = 1) -> int:
    """A number times `times` over `over`, rounded down; in integers where it is one."""
    if isinstance(value, int | str):
        try:
            return int(value) * times // over
        except ValueError:
            pass
    try:
        return math.floor(float(value) * times / over)
    except (TypeError, ValueError, OverflowError):
        raise DecodeError("timestamp", "timestamp", f"{value!r} is not a number") from None


@lru_cache(1024)  # the lines of a basket share one
def _text_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise DecodeError("timestamp", "timestamp", f"{text!r} is not ISO 8601") from None
    return time_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _iso_ms(value: Any) -> int:
    if isinstance(value, datetime):
        return time_ms(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return time_ms(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return _text_ms(value) if isinstance(value, str) else _number(value)


_CONVERTERS: Mapping[str, Callable[[Any], int]] = {
    "s": lambda value: _number(value, 1000),
    "ms": _number,
    "us": lambda value: _number(value, 1, 1_000),
    "ns": lambda value: _number(value, 1, 1_000_000),
    "iso": _iso_ms,
}
