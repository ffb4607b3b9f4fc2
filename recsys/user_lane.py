"""The state of one lane of users: what is one transaction with the lists that it writes."""

from collections.abc import Iterable
from typing import Any

from models.columns import NONE
from recsys import owed, photos, switches
from recsys.owed import OwedLists
from recsys.photos import Photos
from recsys.switches import Switches
from recsys.tracing import Trace
from recsys.user_state import DAY_S, UserState


class UserLane:
    """The state of one lane: its users, the lists it owes them, and what their photos say."""

    def __init__(self, users: UserState, photos: Photos | None = None) -> None:
        self.users = users
        self.owed = OwedLists()
        self.photos = Photos() if photos is None else photos
        self.switches = Switches()
        self.paid_at_ms = 0  # when lists that waited were looked at
        self.shown: dict[str, list[int]] = {}  # slots of users' newest lists, for the hit rate
        self.traces: dict[str, Trace] = {}  # of events whose list waits
        self._photos_day = -1  # of the log, when photos were last looked through

    def begin(self) -> None:
        """Start a round."""
        self.users.begin()
        self.owed.begin()
        self.photos.begin()
        self.switches.begin()

    def commit(self) -> None:
        """Keep the round's changes."""
        self.users.commit()
        self.owed.commit()
        self.photos.commit()

    def rollback(self) -> None:
        """Take the round's changes back."""
        self.users.rollback()
        self.owed.rollback()
        self.photos.rollback()
        self._photos_day = -1

    def sweep_photos(self) -> None:
        """Whoever was silent for too long is forgotten with their photos; once a day of the log."""
        day = int(self.users.lane[1]) // DAY_S
        if len(self.photos) and day != self._photos_day:
            self._photos_day = day
            since_s = (day - self.users.limits.inactive_days_max) * DAY_S
            self.photos.sweep(since_s * 1000, lambda user_id: self.users.find(user_id) != NONE)

    def dirty_records(self) -> list[tuple[bytes, bytes | None]]:
        """The round's changes, as records of the state log."""
        rows = self.users.dirty_records()
        beside = self.owed.dirty_records() + self.photos.dirty_records()
        return rows + beside + self.switches.dirty_records()

    def load_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take back records of the state log."""
        rows: list[tuple[bytes, bytes | None]] = []
        lists: list[tuple[bytes, bytes | None]] = []
        seen: list[tuple[bytes, bytes | None]] = []
        met: list[tuple[bytes, bytes | None]] = []
        parts = {
            owed.SUFFIX: lists,
            photos.SUFFIX: seen,
            switches.SUFFIX: met,
        }
        for record in records:
            parts.get(record[0][-2:], rows).append(record)
        self.users.load_records(rows)
        self.owed.load_records(lists)
        self.photos.load_records(seen)
        self.switches.load_records(met)

    def snapshot(self) -> dict[str, Any]:
        """A copy that later rounds do not touch."""
        beside = self.owed.snapshot() + self.photos.snapshot() + self.switches.snapshot()
        return {
            **self.users.snapshot(),
            "beside_keys": [key.hex() for key, _ in beside],
            "beside_values": [(value or b"").hex() for _, value in beside],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Become that copy. Raises StateError where it is of another version or shape."""
        self.users.restore(snapshot)
        pairs = zip(snapshot["beside_keys"], snapshot["beside_values"], strict=True)
        self.load_records((bytes.fromhex(key), bytes.fromhex(value)) for key, value in pairs)
