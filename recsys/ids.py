"""Ids to slots and back: the one map between the names of the wire and the rows of the arrays."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from models.columns import NONE, Keys, Slots


def key_of(text: str) -> int:
    """64-bit key of an id, never 0: BLAKE2b with 8 bytes, little-endian.

    >>> key_of("85123A")
    15312797613064204374
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class ItemIds:
    """Items by slot. A slot may be known by key alone until its id is seen; slots are never reused.

    >>> ids = ItemIds()
    >>> ids.slot("a"), ids.slot("b"), ids.slot("a"), ids.find("c")
    (0, 1, 0, -1)
    """

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self._slots: dict[str, int] = {}
        self._slots_by_key: dict[int, int] = {}
        self._keys: Keys = np.zeros(64, np.uint64)
        self._named: NDArray[np.bool_] = np.zeros(64, np.bool_)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def named(self) -> NDArray[np.bool_]:
        """Which slots have an id, shape (len,)."""
        return self._named[: len(self.names)]

    @property
    def keys(self) -> Keys:
        """Key of every slot, shape (len,)."""
        return self._keys[: len(self.names)]

    def find(self, item_id: str) -> int:
        """Slot of an id, -1 where it is unknown."""
        return self._slots.get(item_id, NONE)

    def slot(self, item_id: str) -> int:
        """Slot of an id, a new one where it is unknown."""
        slot = self._slots.get(item_id)
        if slot is None:
            slot = self.slot_of_key(key_of(item_id))
            self.names[slot], self._named[slot] = item_id, True
            self._slots[item_id] = slot
        return slot

    def slot_of_key(self, key: int) -> int:
        """Slot of a key, a nameless one where it is unknown."""
        slot = self._slots_by_key.get(key)
        if slot is None:
            slot = len(self.names)
            if slot == len(self._keys):
                self._keys = np.resize(self._keys, 2 * slot)
                self._named = np.concatenate([self._named, np.zeros(slot, np.bool_)])
            self.names.append(None)
            self._slots_by_key[key] = slot
            self._keys[slot] = key
        return slot

    def slots_of_keys(self, keys: Keys) -> Slots:
        """Slots of many keys; key 0 is -1."""
        distinct, where = np.unique(keys, return_inverse=True)
        slots = [self.slot_of_key(key) if key else NONE for key in distinct.tolist()]
        return np.array(slots, np.int32)[where]


class UserIds:
    """Users by slot, with a journal so that a transaction can be taken back."""

    def __init__(self) -> None:
        self._names: list[str | None] = []
        self._slots: dict[str, int] = {}
        self._journal: list[tuple[bool, str, int]] = []
        self.open = False

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def names(self) -> dict[int, str]:
        """Every id by its slot: a copy."""
        return {slot: user_id for user_id, slot in self._slots.items()}

    def name(self, slot: int) -> str:
        """The id of a slot. Raises KeyError where it has none."""
        name = self._names[slot] if slot < len(self._names) else None
        if name is None:
            raise KeyError(slot)
        return name

    def slots(self) -> Slots:
        """Every slot that has an id, ascending."""
        return np.sort(np.fromiter(self._slots.values(), np.int32, len(self._slots)))

    def find(self, user_id: str) -> int:
        """Slot of an id, -1 where it is unknown."""
        return self._slots.get(user_id, NONE)

    def add(self, user_id: str, slot: int) -> None:
        """Give a slot to an id that has none."""
        self._slots[user_id] = slot
        if slot >= len(self._names):
            self._names.extend([None] * (slot + 1 - len(self._names)))
        self._names[slot] = user_id
        if self.open:
            self._journal.append((True, user_id, slot))

    def remove(self, slot: int) -> None:
        """Take the slot from its id."""
        user_id = self.name(slot)
        self._names[slot] = None
        del self._slots[user_id]
        if self.open:
            self._journal.append((False, user_id, slot))

    def begin(self) -> None:
        """Open the journal."""
        self.open = True

    def commit(self) -> None:
        """Keep what changed."""
        self.open = False
        self._journal.clear()

    def rollback(self) -> None:
        """Undo what changed, newest first."""
        self.open = False
        for added, user_id, slot in reversed(self._journal):
            if added:
                self.remove(slot)
            else:
                self.add(user_id, slot)
        self._journal.clear()
