"""Lists that are owed: under overload a user's list may wait, and must not be forgotten by a crash.

An owed list is one small record of the lane's state log, beside the user's rows and outside of
their digest: which lists wait depends on the load, what was learned does not.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

SUFFIX = b"\xff\xfe"  # after the user's id; the rows of user state end in page numbers below it
_FORMAT = struct.Struct("<Bqqq")
VERSION = 1

Change = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Owed:
    """The newest event that a user's list has yet to answer, and since when (epoch ms) it waits."""

    offset: int
    event_time_ms: int
    since_ms: int


class OwedLists:
    """Users whose list waits, longest first, with a journal so that a round can be taken back.

    >>> owed = OwedLists()
    >>> owed.begin(); owed.defer("u1", 7, 1000, 5000); owed.commit()
    >>> owed.oldest_ms(), owed.due(now_ms=6000, overdue_ms=4000, room=8)
    (5000, [('u1', Owed(offset=7, event_time_ms=1000, since_ms=5000))])
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Owed] = {}
        self._before: dict[str, Owed] = {}
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self) -> None:
        """Start a round."""
        self._before = dict(self._waiting)
        self._changed.clear()

    def commit(self) -> None:
        """Keep the round's changes."""
        self._changed.clear()

    def rollback(self) -> None:
        """Take the round's changes back."""
        self._waiting = self._before
        self._changed.clear()

    def defer(self, user_id: str, offset: int, event_time_ms: int, now_ms: int) -> None:
        """The user's list waits; one that waits already keeps its place."""
        old = self._waiting.get(user_id)
        since_ms = now_ms if old is None else old.since_ms
        self._waiting[user_id] = Owed(offset, event_time_ms, since_ms)
        self._changed.add(user_id)

    def settle(self, user_id: str) -> None:
        """The user has a newer list."""
        if self._waiting.pop(user_id, None) is not None:
            self._changed.add(user_id)

    def due(self, now_ms: int, overdue_ms: int, room: int) -> list[tuple[str, Owed]]:
        """Those that wait since `overdue_ms` or before, and all others up to `room` lists.

        Longest first; `settle` each that is answered. Who waits since later than now was deferred
        before a clock was set back.
        """
        due: list[tuple[str, Owed]] = []
        for user_id, owed in self._waiting.items():
            if overdue_ms < owed.since_ms <= now_ms and len(due) >= room:
                break
            due.append((user_id, owed))
        return due

    def oldest_ms(self) -> int | None:
        """Since when the longest waits."""
        return next(iter(self._waiting.values())).since_ms if self._waiting else None

    def dirty_records(self) -> list[Change]:
        """The round's changes, as records of the state log."""
        changes: list[Change] = []
        for user_id in sorted(self._changed):
            owed = self._waiting.get(user_id)
            packed = None
            if owed is not None:
                packed = _FORMAT.pack(VERSION, owed.offset, owed.event_time_ms, owed.since_ms)
            changes.append((user_id.encode() + SUFFIX, packed))
        return changes

    def load_records(self, records: Iterable[Change]) -> None:
        """Take back records whose keys end in SUFFIX. Raises ValueError for an unknown version."""
        for key, value in records:
            user_id = key[: -len(SUFFIX)].decode()
            self._waiting.pop(user_id, None)
            if value is not None:
                version, *fields = _FORMAT.unpack(value)
                if version != VERSION:
                    raise ValueError(f"an owed list of version {version}, this reads {VERSION}")
                self._waiting[user_id] = Owed(*fields)

    def snapshot(self) -> list[tuple[bytes, bytes]]:
        """Everything that waits, as records."""
        return [
            (
                user_id.encode() + SUFFIX,
                _FORMAT.pack(VERSION, owed.offset, owed.event_time_ms, owed.since_ms),
            )
            for user_id, owed in self._waiting.items()
        ]
