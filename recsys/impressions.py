"""Impressions: what each user was shown lately and did not act on, a weak sign against it.

A row a user, made with their first impression: shops that send none pay nothing. An event that
counts for an item answers its impressions. State of the user like any other: rows are logged, can
be taken back, and go when the user goes.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.columns import NONE, Column, Keys, Slots, Table
from models.kernels import kernel
from recsys.state_format import Record

ITEMS = 32  # the newest that a user was shown; the one shown longest ago gives way
NUMBER = 0xFFFB  # in keys where others have a page number; 0xFFFC and up end other records
COUNT_MAX = 10.0  # more than so many say no more
_COLUMNS = (
    Column("item", "<i4", ITEMS, refers=True, empty=NONE),
    Column("last_s", "<u4", ITEMS),
    Column("count", "<u2", ITEMS),
    Column("user", "<i4", derived=True, empty=NONE),
)


class Impressions:
    """Unanswered impressions by the slot of their user.

    >>> shown = Impressions()
    >>> shown.see(7, item=3, time_s=100); shown.see(7, item=3, time_s=200)
    >>> shown.unanswered(7, np.array([3, 4], np.int32), now_s=200.0, half_life_s=100.0).tolist()
    [2.0, 0.0]
    >>> shown.answer(7, item=3)
    >>> shown.unanswered(7, np.array([3], np.int32), now_s=200.0, half_life_s=100.0).tolist()
    [0.0]
    """

    def __init__(self) -> None:
        self.table = Table(_COLUMNS)
        self._rows: dict[int, int] = {}  # user slot to row

    def __len__(self) -> int:
        """Users with a row."""
        return len(self._rows)

    # -- what happens

    def see(self, user: int, item: int, time_s: int) -> None:
        """The user was shown an item."""
        row = self._rows.get(user)
        if row is None:
            row = self._rows[user] = self.table.allocate()
            self.table.touch(np.array([row], np.int32))
            self.table["user"][row] = user
        else:
            self.table.touch(np.array([row], np.int32))
        _see(self.table.rows[row : row + 1], item, time_s)

    def answer(self, user: int, item: int) -> None:
        """The user acted on an item: nothing of it is unanswered."""
        row = self._rows.get(user)
        if row is not None and (self.table["item"][row] == item).any():
            self.table.touch(np.array([row], np.int32))
            _answer(self.table.rows[row : row + 1], item)

    def unanswered(
        self, user: int, items: Slots, now_s: float, half_life_s: float
    ) -> NDArray[np.float32]:
        """How often each item was shown in vain, fading by half with each half-life, at most 10."""
        out = np.zeros(len(items), np.float32)
        row = self._rows.get(user)
        if row is not None:
            _unanswered(self.table.rows[row : row + 1], items, now_s, half_life_s, out)
        return out

    def of(self, user: int) -> list[tuple[int, int, int]]:
        """A user's unanswered items: item, how often, and when last in seconds."""
        row = self._rows.get(user)
        if row is None:
            return []
        rows = (self.table[name][row].tolist() for name in ("item", "count", "last_s"))
        return [each for each in zip(*rows, strict=True) if each[0] != NONE]

    def forget(self, user: int) -> bool:
        """Remove a user's row; whether there was one."""
        row = self._rows.pop(user, None)
        if row is None:
            return False
        self.table.free(np.array([row], np.int32))
        return True

    # -- transactions

    def begin(self) -> None:
        """Open a transaction."""
        self.table.begin()

    def commit(self) -> None:
        """Keep what happened since `begin`."""
        self.table.commit()

    def rollback(self) -> None:
        """Put everything back as it was at `begin`."""
        self.table.rollback()
        self._find_rows()

    # -- records

    def dirty(self) -> Slots:
        """Rows that the open transaction touched."""
        return self.table.dirty()

    def rows(self) -> Slots:
        """All rows."""
        return np.fromiter(self._rows.values(), np.int32, len(self._rows))

    def records(self, rows: Slots, keys: Keys, name: Any, version: bytes) -> list[Record]:
        """Rows as records of the log; `name` gives a user's id by slot, `keys` items'."""
        users = self.table["user"][rows]
        rows, users = rows[users != NONE], users[users != NONE]
        suffix = struct.pack(">H", NUMBER)
        return [
            (name(user).encode() + suffix, version + packed)
            for user, packed in zip(users.tolist(), self.table.encode(rows, keys), strict=True)
        ]

    def load(self, user: int, packed: bytes, resolve: Any) -> None:
        """Take a row back from its bytes. Raises ValueError where they are of a wrong length."""
        row = self._rows.get(user)
        if row is None:
            row = self._rows[user] = self.table.allocate()
        slots = np.array([row], np.int32)
        self.table.touch(slots)
        self.table.decode(slots, [packed], resolve)
        self.table["user"][row] = user

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Arrays that `restore` takes back."""
        return self.table.snapshot()

    def restore(self, arrays: dict[str, NDArray[Any]], item_slots: Slots) -> None:
        """Replace everything by a snapshot; `item_slots` are today's of the snapshot's items.

        Raises:
            ValueError: the snapshot's rows are of another shape.
        """
        self.table.restore(arrays)
        items = self.table["item"]
        if len(item_slots):
            items[:] = np.where(items == NONE, NONE, item_slots[items])
        self._find_rows()

    def _find_rows(self) -> None:
        users = self.table["user"][: self.table.size]
        rows = np.flatnonzero(users != NONE)
        self._rows = dict(zip(users[rows].tolist(), rows.tolist(), strict=True))


@kernel
def _see(rows: Any, item: int, time_s: int) -> None:
    row, at = rows[0], 0
    for j in range(ITEMS):
        if row.item[j] == item:
            at = j
            break
        if row.last_s[j] < row.last_s[at]:  # an empty place is older than all
            at = j
    if row.item[at] != item:
        row.item[at], row.count[at], row.last_s[at] = item, 0, 0
    row.count[at] = min(int(row.count[at]) + 1, 65535)
    row.last_s[at] = max(row.last_s[at], np.uint32(time_s))


@kernel
def _answer(rows: Any, item: int) -> None:
    row = rows[0]
    for j in range(ITEMS):
        if row.item[j] == item:
            row.item[j], row.count[j], row.last_s[j] = NONE, 0, 0


@kernel
def _unanswered(rows: Any, items: Any, now_s: float, half_life_s: float, out: Any) -> None:
    row = rows[0]
    for j in range(ITEMS):
        if row.item[j] == NONE:
            continue
        fade = 0.5 ** (max(now_s - row.last_s[j], 0.0) / half_life_s)
        for at in range(len(items)):
            if items[at] == row.item[j]:
                out[at] = min(float(row.count[j]), COUNT_MAX) * fade
