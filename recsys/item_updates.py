"""What a chunk of user events means for items, packed into one record for the item side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.base import NO_SLOTS, ItemEvents
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE
from models.kernels import kernel
from recsys.item_state import ItemState

VERSION = 3
OLDEST = 2  # what older workers wrote is read from this version on
NOBODY: NDArray[np.uint32] = np.empty(0, np.uint32)


class ItemUpdatesError(Exception):
    """A record of item updates that cannot be read."""


class ItemUpdatesVersionError(Exception):
    """A record that a worker of another version wrote: not to be left out, but read by its like."""


@dataclass(frozen=True, slots=True)
class Example:
    """One list as it was before its step: what the ranker saw, and what the user then chose."""

    features: NDArray[np.float16]  # (candidates, features)
    chosen: NDArray[np.int32]  # rows of `features`; none where the list did not have the answer


@dataclass(frozen=True, slots=True)
class ItemUpdates:
    """Columns of n events without their users, and the examples sampled among them."""

    items: Slots  # (n,)
    types: NDArray[np.uint8]  # (n,)
    weights: NDArray[np.float32]  # (n,)
    times_s: NDArray[np.uint32]  # (n,)
    is_new: NDArray[np.bool_]  # (n,)
    stage: NDArray[np.uint8]  # (n,)
    context: Slots  # (n, 16), -1: none
    ages_s: NDArray[np.uint32]  # (n, 16)
    users: NDArray[np.uint32]  # (n,), a token a user, which says nothing of who they are
    places: NDArray[np.uint32]  # (n,), how many events of the user's went before
    examples: Sequence[Example] = ()
    gone: NDArray[np.uint32] = field(default_factory=lambda: NOBODY)  # tokens of the forgotten

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def forgetting(cls, tokens: Sequence[int]) -> "ItemUpdates":
        """No events: users with these tokens were forgotten."""
        none = np.empty(0, np.uint32)
        context = np.empty((0, CONTEXT_SIZE), np.int32)
        return cls(
            NO_SLOTS, none.astype(np.uint8), none.astype(np.float32), none, none.astype(np.bool_),
            none.astype(np.uint8), context, context.astype(np.uint32), none, none,
            gone=np.array(tokens, np.uint32),
        )  # fmt: skip

    def at(self, clock: NDArray[np.float64]) -> ItemEvents:
        """The events, with the activity clock at each."""
        return ItemEvents(
            self.items, self.types, self.weights, self.times_s, clock, self.is_new, self.stage,
            self.context, self.ages_s, self.users, self.places,
        )  # fmt: skip

    def encode(self, items: ItemState) -> bytes:
        """One record: a table of the distinct items, and columns that point into it."""
        slots = np.concatenate([self.items, self.context.ravel()])
        # 0 is "none", 1 the table's first item.
        distinct, places = _distinct(slots, np.zeros(len(items), np.int32))
        kind = np.dtype("<u2" if len(distinct) < 65_535 else "<u4")
        names, keys = items.ids.names, items.ids.keys
        width = len(self.items)
        record = _Record(
            version=VERSION,
            table=[names[slot] or int(keys[slot]) for slot in distinct.tolist()],
            items=places[:width].astype(kind).tobytes(),
            types=self.types.tobytes(),
            weights=self.weights.astype("<f4").tobytes(),
            times_s=self.times_s.astype("<u4").tobytes(),
            is_new=self.is_new.tobytes(),
            stage=self.stage.tobytes(),
            context=places[width:].astype(kind).tobytes(),
            ages_s=self.ages_s.astype("<u4").tobytes(),
            users=self.users.astype("<u4").tobytes(),
            places=self.places.astype("<u4").tobytes(),
            wide=kind.itemsize == 4,
            examples=[
                (
                    example.features.shape[1],
                    example.features.astype("<f2").tobytes(),
                    example.chosen.tolist(),
                )
                for example in self.examples
            ],
            gone=self.gone.astype("<u4").tobytes(),
        )
        return msgspec.msgpack.encode(record)

    @classmethod
    def decode(cls, items: ItemState, value: bytes) -> "ItemUpdates":
        """Read a record back; its items get slots of this process.

        Raises:
            ItemUpdatesError: not a record, or columns that do not fit together.
            ItemUpdatesVersionError: a record of another version.
        """
        try:
            version = msgspec.msgpack.decode(value, type=_Version).version
            if not OLDEST <= version <= VERSION:
                raise ItemUpdatesVersionError(
                    f"item updates of version {version}, this reads {VERSION}"
                )
            record = msgspec.msgpack.decode(value, type=_Record)
            slots = np.append(np.int32(NONE), items.slots(record.table))
            kind = "<u4" if record.wide else "<u2"
            count = len(record.types)
            shape = (count, CONTEXT_SIZE)
            return cls(
                slots[np.frombuffer(record.items, kind)].reshape(count),
                np.frombuffer(record.types, np.uint8).copy(),
                np.frombuffer(record.weights, "<f4").reshape(count).copy(),
                np.frombuffer(record.times_s, "<u4").reshape(count).copy(),
                np.frombuffer(record.is_new, np.bool_).reshape(count).copy(),
                np.frombuffer(record.stage, np.uint8).reshape(count).copy(),
                slots[np.frombuffer(record.context, kind)].reshape(shape),
                np.frombuffer(record.ages_s, "<u4").reshape(shape).copy(),
                _column(record.users, count),
                _column(record.places, count),
                [
                    Example(
                        np.frombuffer(features, "<f2").reshape(-1, width).copy(),
                        np.array(chosen, np.int32),
                    )
                    for width, features, chosen in record.examples
                ],
                np.frombuffer(record.gone, "<u4").copy(),
            )
        except (msgspec.MsgspecError, IndexError, ValueError) as error:
            raise ItemUpdatesError(str(error)) from error


def _column(packed: bytes, count: int) -> NDArray[np.uint32]:
    """A column that older records do not have."""
    if not packed:
        return np.zeros(count, np.uint32)
    return np.frombuffer(packed, "<u4").reshape(count).copy()


class _Version(msgspec.Struct, array_like=True):
    """What every version begins with."""

    version: int


class _Record(msgspec.Struct, array_like=True):
    """The record: MessagePack, little-endian columns."""

    version: int
    table: list[str | int]
    items: bytes
    types: bytes
    weights: bytes
    times_s: bytes
    is_new: bytes
    stage: bytes
    context: bytes
    ages_s: bytes
    wide: bool
    examples: list[tuple[int, bytes, list[int]]]
    users: bytes = b""  # from version 3 on, like what follows
    places: bytes = b""
    gone: bytes = b""


@kernel
def _distinct(slots: Any, numbers: Any) -> Any:
    """The distinct slots as they first come, and for each slot its number among them, from 1 on.

    NONE has number 0. `numbers` has a zero for every slot there is.
    """
    distinct, places = np.empty(len(slots), np.int32), np.zeros(len(slots), np.int32)
    count = 0
    for at in range(len(slots)):
        slot = slots[at]
        if slot < 0:
            continue
        if not numbers[slot]:
            distinct[count] = slot
            count += 1
            numbers[slot] = count
        places[at] = numbers[slot]
    return distinct[:count], places
