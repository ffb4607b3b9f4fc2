"""The state of all items: a table a model, the activity clock and the ranker.

Rows in arrays with a byte format of their own, a transaction that can be taken back, records for
the compacted log, snapshots and a digest.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Model
from models.clock import ActivityClock
from models.columns import NONE, Slots, Table
from models.ease import Ease, Weights
from models.mf import VectorModel
from models.profile import Profile
from models.ranker import Ranker
from recsys import state_format
from recsys.ids import ItemIds
from recsys.state_format import Record, StateError

_CLOCK_KEY = b"\xffclock"
_RANKER_KEY = b"\xffranker"


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

    def slots(self, items: Sequence[str | int]) -> Slots:
        """Slots of many items, by their ids or 64-bit keys; empty ones where nothing is known."""
        ids = self.ids
        found = [ids.slot(at) if isinstance(at, str) else ids.slot_of_key(at) for at in items]
        self._extend()
        return np.array(found, np.int32)

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
            self._place(np.arange(self._size, size, dtype=np.int32))
            self._size = size

    def _place(self, slots: Slots) -> None:
        """Before the first refit items have the direction of their key."""
        if not self.factors_version:
            for model in self.models:
                if isinstance(model, Profile):
                    model.place(self.tables[model.name], slots, self.ids.keys[slots])

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
        self._size = min(table.size for table in self.tables.values())
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
            records.append((_RANKER_KEY, bytes([state_format.VERSION]) + self.ranker.pack()))
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
        self._place(slots)

    def records(self) -> list[Record]:
        """All of it, as records of the compacted log."""
        named = [slot for slot, name in enumerate(self.ids.names) if name is not None]
        records = self._records(np.array(named, np.int32))
        if self.ranker is not None:
            records.append((_RANKER_KEY, bytes([state_format.VERSION]) + self.ranker.pack()))
        return records

    def _records(self, slots: Slots) -> list[Record]:
        names, keys, version = self.ids.names, self.ids.keys, bytes([state_format.VERSION])
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
                    self._load_clock(state_format.body("clock", value))
            elif key == _RANKER_KEY:
                if value is not None:
                    self._load_ranker(state_format.body("ranker", value))
            elif value is not None:
                rows[self.ids.slot(key.decode())] = state_format.body("item", value)
            elif (slot := self.find(key.decode())) != NONE:
                rows.pop(slot, None)
                self._extend()
                self._blank(np.array([slot], np.int32))
        self._extend()
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
        self, version: str, item_keys: NDArray[np.uint64], factors: NDArray[np.float32],
        weights: Weights | None = None,
    ) -> None:  # fmt: skip
        """Take the item factors of a refit, all at once. `factors` has shape (n_items, f).

        `weights` are of the first of these items; without them those in force stay.

        Raises:
            ValueError: factors of another width than the models'; nothing has changed then.
        """
        slots = self.slots_of_keys(item_keys)
        for model in self.models:
            if isinstance(model, VectorModel):
                model.swap(self.tables[model.name], slots, factors)
            elif isinstance(model, Ease) and weights is not None:
                mine = slots[: len(weights.values)]
                model.swap(self.tables[model.name], mine, weights)
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
            tables |= state_format.prefixed(name, table.snapshot())
        return {
            "version": np.array([state_format.VERSION], np.int64),
            "items": [name or "" for name in self.ids.names],
            "item_keys": self.ids.keys.copy(),
            "factors_version": [self.factors_version],
            "ranker": np.frombuffer(self.ranker.pack() if self.ranker else b"", np.uint8),
            **state_format.prefixed("clock", self.clock.arrays()),
            **tables,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Replace everything by a snapshot; call it on a state without slots.

        Raises:
            StateError: the snapshot is of another version or shape.
        """
        state_format.check_version(snapshot)
        if len(self.ids):
            raise StateError("a snapshot of items is restored into an empty state")
        for key, name in zip(snapshot["item_keys"].tolist(), snapshot["items"], strict=True):
            self.ids.slot_of_key(key)
            if name:
                self.ids.slot(str(name))
        try:
            for name, table in self.tables.items():
                table.restore(state_format.unprefixed(name, snapshot))
        except (KeyError, ValueError) as error:
            raise StateError(str(error)) from error
        self.clock.load(state_format.unprefixed("clock", snapshot))
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
