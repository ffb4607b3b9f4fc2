"""The catalogue: what is known of products, in columns beside the item state's slots."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.columns import NONE, Slots
from recsys.item_state import ItemState
from recsys.words import Words
from streams.events import CandidateFilter, Product

NEWEST = 512  # products remembered as the newest


@dataclass
class _Codes:
    """Texts to small numbers, in the order they were first seen."""

    names: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)

    def code(self, name: str | None) -> int:
        if name is None:
            return NONE
        code = self.codes.setdefault(name, len(self.names))
        if code == len(self.names):
            self.names.append(name)
        return code


class Catalogue:
    """Products by item slot. What the catalogue does not hold counts as available and nameless.

    Columns have shape (capacity,): `category` and `brand` codes (-1: none), `price` (NaN: none),
    `available`, `listed`.
    """

    def __init__(self, items: ItemState) -> None:
        self.items = items
        self.categories = _Codes()
        self.brands = _Codes()
        self.category: Slots = np.full(64, NONE, np.int32)
        self.brand: Slots = np.full(64, NONE, np.int32)
        self.price: NDArray[np.float32] = np.full(64, np.nan, np.float32)
        self.available: NDArray[np.bool_] = np.ones(64, np.bool_)
        self.listed: NDArray[np.bool_] = np.zeros(64, np.bool_)
        self.titles: dict[int, str] = {}
        self._members: list[dict[int, None]] = []  # slots by category code
        self._newest: dict[int, None] = {}
        self._newest_slots: Slots = np.empty(0, np.int32)
        self._newest_at = 0
        self.words = Words()
        self.changes = 0

    def __len__(self) -> int:
        """Products listed."""
        return len(self.titles)

    def lists(self, item_id: str) -> bool:
        """Whether the catalogue holds a product."""
        slot = self.items.find(item_id)
        return slot in self.titles

    def put(self, product: Product) -> int:
        """List a product, or change it. Returns its slot."""
        slot = self.items.slot(product.item_id)
        self._reserve()
        self._leave_category(slot)
        code = self.categories.code(product.category)
        if code != NONE:
            while len(self._members) <= code:
                self._members.append({})
            self._members[code][slot] = None
        if not self.listed[slot]:
            self._newest.pop(slot, None)
            self._newest[slot] = None
            while len(self._newest) > NEWEST:
                del self._newest[next(iter(self._newest))]
        self.category[slot] = code
        self.brand[slot] = self.brands.code(product.brand)
        self.price[slot] = np.nan if product.price is None else product.price
        self.available[slot] = product.available
        self.listed[slot] = True
        self.titles[slot] = product.title
        self.words.put(slot, product)
        self.changes += 1
        return slot

    def remove(self, item_id: str) -> None:
        """Take a product off the list: it is no longer recommended.

        An id that nothing is known of yet counts: the catalogue is read before the items' state.
        """
        slot = self.items.slot(item_id)
        self._reserve()
        self._leave_category(slot)
        self.category[slot] = self.brand[slot] = NONE
        self.price[slot] = np.nan
        self.available[slot] = self.listed[slot] = False
        self.titles.pop(slot, None)
        self.words.clear(slot)
        self._newest.pop(slot, None)
        self.changes += 1

    def newest(self) -> Slots:
        """Products by the time they were listed, newest first."""
        if self._newest_at != self.changes:
            newest = np.fromiter(reversed(self._newest), np.int32, len(self._newest))
            self._newest_slots, self._newest_at = newest, self.changes
        return self._newest_slots

    def members(self, category: int) -> Slots:
        """Slots of a category's products."""
        if not 0 <= category < len(self._members):
            return np.empty(0, np.int32)
        return np.fromiter(self._members[category], np.int32, len(self._members[category]))

    def title(self, slot: int) -> str:
        """The product's title, or its id where the catalogue has none."""
        return self.titles.get(slot) or self.items.ids.names[slot] or ""

    def recommendable(self) -> NDArray[np.bool_]:
        """Which items may be recommended at all: available, and known by their id; by slot.

        An item that was forgotten stays in its users' histories by its key alone.
        """
        self._reserve()
        return self.available[: len(self.items)] & self.items.ids.named

    def select(self, wanted: CandidateFilter) -> NDArray[np.bool_]:
        """Which items a filter lets through: a mask over all slots. All its conditions hold.

        A product without category or price fails a condition on it.
        """
        self._reserve()
        size = len(self.items)
        allowed = np.ones(size, np.bool_)
        if wanted.items is not None:
            allowed &= self._mask(wanted.items, size)
        if wanted.exclude is not None:
            allowed &= ~self._mask(wanted.exclude, size)
        if wanted.categories is not None:
            codes = [self.categories.codes.get(name, -2) for name in wanted.categories]
            allowed &= np.isin(self.category[:size], codes)
        if wanted.price_min is not None:
            allowed &= self.price[:size] >= np.float32(wanted.price_min)
        if wanted.price_max is not None:
            allowed &= self.price[:size] <= np.float32(wanted.price_max)
        return allowed

    def _mask(self, item_ids: Sequence[str], size: int) -> NDArray[np.bool_]:
        mask = np.zeros(size, np.bool_)
        slots = [self.items.find(item_id) for item_id in item_ids]
        mask[[slot for slot in slots if slot != NONE]] = True
        return mask

    def _leave_category(self, slot: int) -> None:
        if self.category[slot] != NONE:
            del self._members[self.category[slot]][slot]

    def reserve(self) -> None:
        """Make the columns as long as there are items."""
        self._reserve()

    def _reserve(self) -> None:
        size, held = len(self.items), len(self.available)
        if size <= held:
            return
        extra = max(size, held * 3 // 2) - held
        self.category = np.append(self.category, np.full(extra, NONE, np.int32))
        self.brand = np.append(self.brand, np.full(extra, NONE, np.int32))
        self.price = np.append(self.price, np.full(extra, np.nan, np.float32))
        self.available = np.append(self.available, np.ones(extra, np.bool_))
        self.listed = np.append(self.listed, np.zeros(extra, np.bool_))
