"""The state: what is known of a lane's users, and of all items.

Both are rows in arrays with a byte format of their own (version byte first), a transaction that
can be taken back, records for the compacted log, snapshots and a digest. A user's record is the
base facts, integers only; what follows from other partitions is computed when asked.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models import history
from models.base import Model
from models.clock import ActivityClock
from models.columns import NONE, Slots, Table
from models.history import ENTRIES_MAX, HEAD_COLUMNS, PAGE_COLUMNS, PAGE_SIZE
from models.mf import VectorModel
from models.profile import Profile
from models.ranker import Ranker
from recsys.ids import ItemIds, UserIds

VERSION = 1
OLDEST = 1  # what older workers wrote is read from this version on
# How a row of a version becomes one of the next, where its bytes change: so a newer worker takes
# over what an older one wrote. An older one that meets newer rows says so and ends.
Kind = Literal["lane", "head", "page", "item", "clock", "ranker"]
UPGRADES: dict[tuple[Kind, int], Callable[[bytes], bytes]] = {}
DAY_S = 86_400
SWEEP_EVENTS = 4_096  # users are looked through for the inactive once in so many events of a lane
_LANE_KEY = b"\xff\xff"
_CLOCK_KEY = b"\xffclock"
_RANKER_KEY = b"\xffranker"

Record = tuple[bytes, bytes | None]


class StateError(Exception):
    """State that cannot be read: an unknown version or bytes of a wrong length."""


@dataclass(frozen=True)
class StateLimits:
    """Bounds of the user state.

    Args:
        entries_max: distinct items remembered a user; the one touched longest ago gives way.
        inactive_days_max: users without an event for so long (by the lane's newest event) go.
        users_max: of more users than this, those longest inactive go.
    """

    entries_max: int = 2_048
    inactive_days_max: int = 400
    users_max: int = 5_000_000

    def __post_init__(self) -> None:
        if not history.RECENT_SIZE <= self.entries_max <= ENTRIES_MAX:
            raise ValueError(f"entries_max must lie in {history.RECENT_SIZE}..{ENTRIES_MAX}")


@dataclass(frozen=True, slots=True)
class History:
    """One user's past: their n distinct items, and the newest of them first."""

    items: Slots  # (n,)
    first_s: NDArray[np.uint32]  # (n,)
    last_s: NDArray[np.uint32]  # (n,)
    counts: NDArray[np.uint16]  # (n,)
    weights: NDArray[np.float32]  # (n,), sums of event weights; negative: disliked
    types: NDArray[np.uint16]  # (n,), one bit a type of event
    recent: NDArray[np.int32]  # (m,), indices into the above, newest first, m <= 32

    @classmethod
    def empty(cls, entries: int) -> "History":
        """Room for so many items."""
        return cls(
            np.empty(entries, np.int32), np.empty(entries, np.uint32),
            np.empty(entries, np.uint32), np.empty(entries, np.uint16),
            np.empty(entries, np.float32), np.empty(entries, np.uint16),
            np.empty(history.RECENT_SIZE, np.int32),
        )  # fmt: skip

    def part(self, entries: int, newest: int) -> "History":
        """A copy of the first entries."""
        return History(
            self.items[:entries].copy(), self.first_s[:entries].copy(),
            self.last_s[:entries].copy(), self.counts[:entries].copy(),
            self.weights[:entries].copy(), self.types[:entries].copy(),
            self.recent[:newest].copy(),
        )  # fmt: skip


class UserState:
    """Everything known of the users of one lane."""

    def __init__(self, items: "ItemState", limits: StateLimits | None = None) -> None:
        self.items = items
        self.limits = limits or StateLimits()
        self.ids = UserIds()
        self.heads = Table(HEAD_COLUMNS)
        self.pages = Table(PAGE_COLUMNS)
        self.lane = np.zeros(2, np.int64)  # events applied, newest event in seconds
        self._lane_before = self.lane.copy()
        self._tombstones: list[bytes] = []
        entries = self.limits.entries_max
        self.chain: Slots = np.empty(entries // PAGE_SIZE + 2, np.int32)
        self._room = History.empty(entries)

    def __len__(self) -> int:
        """Users that have a slot."""
        return len(self.ids)

    @property
    def events_applied(self) -> int:
        """Events of this lane that counted, ever."""
        return int(self.lane[0])

    def find(self, user_id: str) -> int:
        """Slot of a user, -1 where nothing is known."""
        return self.ids.find(user_id)

    def slot(self, user_id: str) -> int:
        """Slot of a user, an empty one where nothing is known."""
        slot = self.ids.find(user_id)
        if slot == NONE:
            slot = self.heads.allocate()
            self.ids.add(user_id, slot)
        return slot

    def history(self, slot: int) -> History:
        """A user's items: copies, so that they stay as they are. Slot -1 has none."""
        if slot == NONE:
            return self._room.part(0, 0)
        room = self._room
        filled, newest = history.read_history(
            slot, self.heads.rows, self.pages.rows, room.items, room.first_s, room.last_s,
            room.counts, room.weights, room.types, room.recent,
        )  # fmt: skip
        return room.part(filled, newest)

    # -- transactions ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Open a transaction. Raises RuntimeError where one is open."""
        self.heads.begin()
        self.pages.begin()
        self.ids.begin()
        self._lane_before = self.lane.copy()
        self._tombstones.clear()

    def commit(self) -> None:
        """Keep what was learned since `begin`."""
        self.heads.commit()
        self.pages.commit()
        self.ids.commit()
        self._tombstones.clear()

    def rollback(self) -> None:
        """Put everything back as it was at `begin`, byte for byte."""
        self.ids.rollback()
        self.heads.rollback()
        self.pages.rollback()
        self.lane[:] = self._lane_before
        self._tombstones.clear()

    # -- records of the log ----------------------------------------------------------------------

    def dirty_records(self) -> list[Record]:
        """What the open transaction changed, as records of the compacted log."""
        if not self.heads.open:
            raise RuntimeError("no transaction is open")
        records = self._records(self.heads.dirty(), self.pages.dirty())
        alive = {key for key, _ in records}
        records += [(key, None) for key in dict.fromkeys(self._tombstones) if key not in alive]
        return records

    def records(self) -> list[Record]:
        """All of it, as records of the compacted log."""
        heads = self.ids.slots()
        return self._records(heads, np.arange(self.pages.size, dtype=np.int32))

    def _records(self, heads: Slots, pages: Slots) -> list[Record]:
        keys = self.items.ids.keys
        name = self.ids.name
        heads = heads[self.heads["events"][heads] > 0]
        pages = pages[self.pages["user"][pages] != NONE]
        version = bytes([VERSION])
        records: list[Record] = [(_LANE_KEY, version + self.lane.astype("<i8").tobytes())]
        records += [
            (name(slot).encode() + b"\0\0", version + row)
            for slot, row in zip(heads.tolist(), self.heads.encode(heads), strict=True)
        ]
        records += [
            (name(user).encode() + struct.pack(">H", number + 1), version + row)
            for user, number, row in zip(
                self.pages["user"][pages].tolist(), self.pages["number"][pages].tolist(),
                self.pages.encode(pages, keys), strict=True,
            )
        ]  # fmt: skip
        return records

    def load_record(self, key: bytes, value: bytes | None) -> None:
        """Take back one record of the log. Raises StateError where it cannot be read."""
        self.load_records([(key, value)])

    def load_records(self, records: Iterable[Record]) -> None:
        """Take back records in the order of the log, later ones over earlier ones.

        Raises:
            StateError: an unknown version, or bytes of a wrong length.
        """
        heads: dict[int, bytes] = {}
        pages: dict[int, bytes] = {}
        for key, value in records:
            if key == _LANE_KEY:
                if value is not None:
                    self.lane[:] = np.frombuffer(_body("lane", value), "<i8")
                continue
            user_id, number = key[:-2].decode(), struct.unpack(">H", key[-2:])[0]
            if value is None:
                self._decode(heads, pages)
                self._drop(user_id, number)
            elif number:
                pages[self._page(self.slot(user_id), number - 1)] = _body("page", value)
            else:
                heads[self.slot(user_id)] = _body("head", value)
        self._decode(heads, pages)

    def _decode(self, heads: dict[int, bytes], pages: dict[int, bytes]) -> None:
        try:
            for table, rows in ((self.heads, heads), (self.pages, pages)):
                slots = np.fromiter(rows, np.int32, len(rows))
                table.touch(slots)
                table.decode(slots, list(rows.values()), self.items.slots_of_keys)
                rows.clear()
        except ValueError as error:
            raise StateError(str(error)) from error

    def _page(self, slot: int, number: int) -> int:
        """The page of a number in a user's chain; missing ones before it are made blank."""
        before, page = NONE, int(self.heads["first_page"][slot])
        for at in range(number + 1):
            if page == NONE:
                page = self.pages.allocate()
                self.pages.touch(np.array([page], np.int32))
                self.pages["user"][page] = slot
                self.pages["number"][page] = at
                owner, column = (
                    (self.heads, "first_page") if before == NONE else (self.pages, "next")
                )
                link = slot if before == NONE else before
                owner.touch(np.array([link], np.int32))
                owner[column][link] = page
            if at < number:
                before, page = page, int(self.pages["next"][page])
        return page

    def _drop(self, user_id: str, number: int) -> None:
        slot = self.find(user_id)
        if slot == NONE:
            return
        if number == 0:
            self._remove(slot)
            return
        chain = self._chain(slot)
        if number <= len(chain):
            self.pages.free(np.array(chain[number - 1 :], np.int32))
            if number == 1:
                self.heads["first_page"][slot] = NONE
            else:
                self.pages["next"][chain[number - 2]] = NONE

    def _chain(self, slot: int) -> list[int]:
        chain, page = [], int(self.heads["first_page"][slot])
        while page != NONE:
            chain.append(page)
            page = int(self.pages["next"][page])
        return chain

    # -- forgetting ------------------------------------------------------------------------------

    def sweep(self, awaited: Slots) -> int:
        """Forget inactive users; slots in `awaited` keep their id, empty. Returns how many went."""
        known = self.ids.slots()
        last_s = self.heads["last_s"][known].astype(np.int64)
        gone = known[last_s < self.lane[1] - self.limits.inactive_days_max * DAY_S]
        surplus = len(known) - len(gone) - self.limits.users_max
        if surplus > 0:
            rest = sorted(
                np.setdiff1d(known, gone).tolist(),
                key=lambda slot: (int(self.heads["last_s"][slot]), self.ids.name(slot)),
            )
            gone = np.concatenate([gone, np.array(rest[:surplus], np.int32)])
        kept = set(awaited.tolist())
        for slot in gone.tolist():
            self._remove(slot, keep_id=slot in kept)
        return len(gone)

    def forget(self, user_id: str, until_s: int) -> bool:
        """Forget a user whose events, or some of them, lie at or before a second; whether one did.

        A user who is all newer came back since, and stays.
        """
        slot = self.find(user_id)
        if slot == NONE or int(self.heads["first_s"][slot]) > until_s:
            return False
        self._remove(slot)
        return True

    def _remove(self, slot: int, keep_id: bool = False) -> None:
        chain = self._chain(slot)
        name = self.ids.name(slot).encode()
        if self.heads.open and self.heads["events"][slot]:
            self._tombstones += [
                name + struct.pack(">H", number) for number in range(len(chain) + 1)
            ]
        self.pages.free(np.array(chain, np.int32))
        if keep_id:
            self.heads.touch(np.array([slot], np.int32))
            self.heads.clear(np.array([slot], np.int32))
        else:
            self.ids.remove(slot)
            self.heads.free(np.array([slot], np.int32))

    # -- the whole -------------------------------------------------------------------------------

    def digest(self) -> str:
        """Fingerprint of all users, whatever their slots: equal logs give equal digests."""
        total = 0
        for key, value in self.records():
            assert value is not None
            record = struct.pack(">I", len(key)) + key + value
            total += int.from_bytes(hashlib.blake2b(record, digest_size=16).digest(), "little")
        return f"{total % 2**128:032x}"

    def snapshot(self) -> dict[str, Any]:
        """Arrays and lists that `restore` takes back, in this process or another."""
        slots = self.ids.slots()
        return {
            "version": np.array([VERSION], np.int64),
            "lane": self.lane.copy(),
            "users": [self.ids.name(slot) for slot in slots.tolist()],
            "user_slots": slots,
            "item_keys": self.items.ids.keys.copy(),
            **_prefixed("heads", self.heads.snapshot()),
            **_prefixed("pages", self.pages.snapshot()),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Replace everything by a snapshot.

        Raises:
            StateError: the snapshot is of another version or shape.
        """
        _check_version(snapshot)
        try:
            self.heads.restore(_unprefixed("heads", snapshot))
            self.pages.restore(_unprefixed("pages", snapshot))
        except ValueError as error:
            raise StateError(str(error)) from error
        self.lane[:] = snapshot["lane"]
        self.ids = UserIds()
        for user_id, slot in zip(snapshot["users"], snapshot["user_slots"].tolist(), strict=True):
            self.ids.add(str(user_id), slot)
        # Slots of items differ from process to process; keys do not.
        now = self.items.slots_of_keys(np.asarray(snapshot["item_keys"], np.uint64))
        items = self.pages["item"]
        if len(now):
            items[:] = np.where(items == NONE, NONE, now[items])

    def memory(self) -> dict[str, int]:
        """Bytes held and users known, for people and metrics."""
        return {
            "users": len(self), "pages": len(self.pages), "head_bytes": self.heads.row_bytes,
            "page_bytes": self.pages.row_bytes,
            "bytes": self.heads.memory_bytes + self.pages.memory_bytes,
        }  # fmt: skip


class ItemState:
    """Everything known of all items: a table a model, one slot an item in all of them."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.ids = ItemIds()
        self.models = tuple(models)
        self.tables = {model.name: Table(model.columns) for model in self.models}
        self.clock = ActivityClock()
        self.factors_version = ""
        self.ranker: Ranker | None = None
        self._ranker_bytes: bytes | None = None
        self.open = False
        self._size = 0
        self._clock_before: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, item_id: str) -> int:
        """Slot of an item, -1 where nothing is known."""
        return self.ids.find(item_id)

    def slot(self, item_id: str) -> int:
        """Slot of an item, an empty one where nothing is known. Never taken back."""
        slot = self.ids.slot(item_id)
        self._extend()
        return slot

    def slot_of_key(self, key: int) -> int:
        """Slot of a 64-bit key; an item whose id is not known yet gets a nameless one."""
        slot = self.ids.slot_of_key(key)
        self._extend()
        return slot

    def slots_of_keys(self, keys: NDArray[np.uint64]) -> Slots:
        """Slots of 64-bit keys; items whose id is not known yet get a nameless one."""
        slots = self.ids.slots_of_keys(keys)
        self._extend()
        return slots

    def _extend(self) -> None:
        size = len(self.ids)
        if size > self._size:
            for table in self.tables.values():
                table.extend(size)
            if not self.factors_version:
                new = np.arange(self._size, size, dtype=np.int32)
                for model in self.models:
                    if isinstance(model, Profile):
                        model.place(self.tables[model.name], new, self.ids.keys[new])
            self._size = size

    def attach_ranker(self, ranker: Ranker) -> None:
        """Keep the ranker's weights with the items: it learns in the order of their log."""
        self.ranker = ranker
        if self._ranker_bytes is not None:
            self._load_ranker(self._ranker_bytes)

    def begin(self) -> None:
        """Open a transaction. Raises RuntimeError where one is open."""
        for table in self.tables.values():
            table.begin()
        if self.ranker is not None:
            self.ranker.begin()
        self.open = True
        self._clock_before = self.clock.arrays()

    def commit(self) -> None:
        """Keep what was learned since `begin`."""
        for table in self.tables.values():
            table.commit()
        if self.ranker is not None:
            self.ranker.commit()
        self.open = False

    def rollback(self) -> None:
        """Put rows back byte for byte; slots given out since stay, empty."""
        for table in self.tables.values():
            table.rollback()
        if self.ranker is not None:
            self.ranker.rollback()
        self.clock.load(self._clock_before)
        self.open = False
        self._size = 0
        self._extend()

    def dirty_records(self) -> list[Record]:
        """What the open transaction changed, as records of the compacted log."""
        if not self.open:
            raise RuntimeError("no transaction is open")
        touched = np.unique(np.concatenate([table.dirty() for table in self.tables.values()]))
        kept = self.tables["popularity"]["events"][touched] > 0
        records = self._records(touched[kept])
        names = (self.ids.names[slot] for slot in touched[~kept].tolist())
        records += [(name.encode(), None) for name in names if name is not None]
        if self.ranker is not None and self.ranker.changed:
            records.append((_RANKER_KEY, bytes([VERSION]) + self.ranker.pack()))
        return records

    @property
    def touched(self) -> int:
        """Rows that the open transaction has touched, in the table with most of them."""
        return max(int(table.counters[2]) for table in self.tables.values())

    def sweep(self, before_s: int) -> int:
        """Forget items whose last event was before a time: blank rows, tombstones in the log.

        Slots stay, so that nothing points at another item; a restart gives their memory back.
        Returns how many went.
        """
        table = self.tables["popularity"]
        size = len(self)
        idle = (table["events"][:size] > 0) & (table["last_s"][:size] < before_s)
        gone = np.flatnonzero(idle).astype(np.int32)
        self._blank(gone)
        return len(gone)

    def _blank(self, slots: Slots) -> None:
        for table in self.tables.values():
            table.touch(slots)
            table.clear(slots)

    def records(self) -> list[Record]:
        """All of it, as records of the compacted log."""
        named = [slot for slot, name in enumerate(self.ids.names) if name is not None]
        records = self._records(np.array(named, np.int32))
        if self.ranker is not None:
            records.append((_RANKER_KEY, bytes([VERSION]) + self.ranker.pack()))
        return records

    def _records(self, slots: Slots) -> list[Record]:
        names, keys, version = self.ids.names, self.ids.keys, bytes([VERSION])
        parts = [self.tables[model.name].encode(slots, keys) for model in self.models]
        clock = self.clock.arrays()
        packed = b"".join(
            clock[name].astype(clock[name].dtype.newbyteorder("<")).tobytes()
            for name in ("times_s", "counts", "meta")
        )
        records: list[Record] = [(_CLOCK_KEY, version + packed)]
        for slot, *rows in zip(slots.tolist(), *parts, strict=True):
            name = names[slot]
            if name is not None:
                records.append((name.encode(), version + b"".join(rows)))
        return records

    def load_record(self, key: bytes, value: bytes | None) -> None:
        """Take back one record of the log. Raises StateError where it cannot be read."""
        self.load_records([(key, value)])

    def load_records(self, records: Iterable[Record]) -> None:
        """Take back records in the order of the log, later ones over earlier ones.

        Raises:
            StateError: an unknown version, or bytes of a wrong length.
        """
        rows: dict[int, bytes] = {}
        for key, value in records:
            if key == _CLOCK_KEY:
                if value is not None:
                    self._load_clock(_body("clock", value))
            elif key == _RANKER_KEY:
                if value is not None:
                    self._load_ranker(_body("ranker", value))
            elif value is not None:
                rows[self.slot(key.decode())] = _body("item", value)
            elif (slot := self.find(key.decode())) != NONE:
                rows.pop(slot, None)
                self._blank(np.array([slot], np.int32))
        slots = np.fromiter(rows, np.int32, len(rows))
        start = 0
        for model in self.models:
            table = self.tables[model.name]
            stop = start + table.encoded_bytes
            try:
                table.touch(slots)
                part = [row[start:stop] for row in rows.values()]
                table.decode(slots, part, self.slots_of_keys)
            except ValueError as error:
                raise StateError(str(error)) from error
            start = stop

    def _load_ranker(self, packed: bytes) -> None:
        """Weights of other features than today's are let be: the ranker starts anew."""
        self._ranker_bytes = packed
        if self.ranker is not None:
            self.ranker.unpack(packed)

    def _load_clock(self, body: bytes) -> None:
        arrays, start = self.clock.arrays(), 0
        for name in ("times_s", "counts", "meta"):
            size = arrays[name].nbytes
            arrays[name] = np.frombuffer(body[start : start + size], arrays[name].dtype)
            start += size
        self.clock.load(arrays)

    def swap_factors(
        self, version: str, item_keys: NDArray[np.uint64], factors: NDArray[np.float32]
    ) -> None:
        """Take the item factors of a refit, all at once. `factors` has shape (n_items, f).

        Raises:
            ValueError: factors of another width than the models'.
        """
        slots = self.slots_of_keys(item_keys)
        for model in self.models:
            if isinstance(model, VectorModel):
                model.swap(self.tables[model.name], slots, factors)
        self.factors_version = version

    def digest(self) -> str:
        """Fingerprint of what does not depend on the order of events: integer counts, by id."""
        table = self.tables["popularity"]
        names = ("events", "users", "counts", "first_s", "last_s")
        total = 0
        for slot, name in enumerate(self.ids.names):
            if name is not None and table["events"][slot]:
                row = b"".join(table[column][slot].tobytes() for column in names)
                record = struct.pack(">I", len(name)) + name.encode() + row
                total += int.from_bytes(hashlib.blake2b(record, digest_size=16).digest(), "little")
        return f"{total % 2**128:032x}"

    def snapshot(self) -> dict[str, Any]:
        """Arrays and lists that `restore` takes back, in this process or another."""
        tables: dict[str, Any] = {}
        for name, table in self.tables.items():
            tables |= _prefixed(name, table.snapshot())
        return {
            "version": np.array([VERSION], np.int64),
            "items": [name or "" for name in self.ids.names],
            "item_keys": self.ids.keys.copy(),
            "factors_version": [self.factors_version],
            "ranker": np.frombuffer(self.ranker.pack() if self.ranker else b"", np.uint8),
            **_prefixed("clock", self.clock.arrays()),
            **tables,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Replace everything by a snapshot; call it on a state without slots.

        Raises:
            StateError: the snapshot is of another version or shape.
        """
        _check_version(snapshot)
        if len(self.ids):
            raise StateError("a snapshot of items is restored into an empty state")
        for key, name in zip(snapshot["item_keys"].tolist(), snapshot["items"], strict=True):
            self.ids.slot_of_key(key)
            if name:
                self.ids.slot(str(name))
        try:
            for name, table in self.tables.items():
                table.restore(_unprefixed(name, snapshot))
        except (KeyError, ValueError) as error:
            raise StateError(str(error)) from error
        self.clock.load(_unprefixed("clock", snapshot))
        self._size = len(self.ids)
        self.factors_version = str(snapshot["factors_version"][0])
        for model in self.models:
            if isinstance(model, VectorModel):
                model.prepare(self.tables[model.name])
        if len(snapshot["ranker"]):
            self._load_ranker(snapshot["ranker"].tobytes())

    def memory(self) -> dict[str, int]:
        """Bytes held and items known, for people and metrics."""
        row_bytes = sum(table.row_bytes for table in self.tables.values())
        held = sum(table.memory_bytes for table in self.tables.values())
        return {"items": len(self), "row_bytes": row_bytes, "bytes": held}


def _body(kind: Kind, value: bytes) -> bytes:
    """The row in a record's value, as this version writes it."""
    version, body = value[0] if value else -1, value[1:]
    if not OLDEST <= version <= VERSION:
        raise StateError(f"state of version {value[:1].hex() or 'none'}, this reads {VERSION}")
    for older in range(version, VERSION):
        if (upgrade := UPGRADES.get((kind, older))) is not None:
            body = upgrade(body)
    return body


def _check_version(snapshot: Mapping[str, Any]) -> None:
    version = int(snapshot["version"][0])
    if version != VERSION:
        raise StateError(f"snapshot of version {version}, this reads {VERSION}")


def _prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _unprefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{prefix}."
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}
