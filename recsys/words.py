"""Words of products: titles, categories, brands and tags as codes, and who shares them."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import NONE, Slots
from models.kernels import kernel
from streams.events import Product

WORDS_MAX = 12  # words kept of a product
SHARERS = 64  # newest products remembered of a word
READ_WORDS = 8  # words of a user's items that bring candidates
_WORD = re.compile(r"[^\W_]{2,}")


class Words:
    """Word codes by item slot, shape (capacity, 12), -1 behind the last; and back."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self.of_item: NDArray[np.int32] = np.full((64, WORDS_MAX), NONE, np.int32)
        self.counts: NDArray[np.int32] = np.zeros(64, np.int32)  # products of each word
        self.sharers: NDArray[np.int32] = np.full((64, SHARERS), NONE, np.int32)
        self.loud: NDArray[np.float32] = np.zeros(64, np.float32)
        self._heard: NDArray[np.int32] = np.full(WORDS_MAX, NONE, np.int32)
        self._listened = 0

    def put(self, slot: int, product: Product) -> None:
        """A product's words instead of those it had."""
        words = list(dict.fromkeys(_words_of(product)))[:WORDS_MAX]
        codes = [self._codes.setdefault(word, len(self._codes)) for word in words]
        self.of_item = _room(self.of_item, slot + 1, NONE)
        self.counts = _room(self.counts, len(self._codes), 0)
        self.sharers = _room(self.sharers, len(self._codes), NONE)
        had = set(self.of_item[slot].tolist())
        for code in codes:
            if code not in had:
                self.sharers[code, self.counts[code] % SHARERS] = slot
                self.counts[code] += 1
        self.of_item[slot] = NONE
        self.of_item[slot, : len(codes)] = codes

    def clear(self, slot: int) -> None:
        """A product without words, as one that is gone."""
        if slot < len(self.of_item):
            self.of_item[slot] = NONE

    def reserve(self, size: int) -> None:
        """Room for so many slots."""
        self.of_item = _room(self.of_item, size, NONE)

    def listen(self, own: Slots, weights: NDArray[np.float32]) -> int:
        """Hear the words of weighted items; `loud` has what each counts until the next call.

        Returns how many different ones there are.
        """
        if len(self.loud) < len(self.counts):
            self.loud = np.zeros(len(self.counts), np.float32)
        if len(self._heard) < len(own) * WORDS_MAX:
            self._heard = _room(self._heard, len(own) * WORDS_MAX, NONE)
        self._listened = _listen(
            self.of_item, self.counts, own, weights, self._heard, self._listened, self.loud
        )
        return int(self._listened)

    def alike(
        self, own: Slots, weights: NDArray[np.float32], scratch: Scores
    ) -> tuple[Slots, Scores]:
        """Products that share the heaviest words of weighted items, with what they share.

        `scratch` has a place a slot, and is zero before and after.
        """
        found = self.listen(own, weights)
        slots = np.empty(READ_WORDS * SHARERS, np.int32)
        scores = np.empty(len(slots), np.float32)
        count = _alike(
            self.of_item, self.sharers, self._heard[:found], self.loud, scratch, slots, scores
        )
        return slots[:count], scores[:count]


def _words_of(product: Product) -> Iterable[str]:
    if product.category:
        yield f"category:{product.category}"
    if product.brand:
        yield f"brand:{product.brand}"
    for tag in product.tags or ():
        yield f"tag:{tag}"
    yield from _WORD.findall((product.title or "").lower())


def _room(array: NDArray[np.int32], size: int, empty: int) -> NDArray[np.int32]:
    if size <= len(array):
        return array
    grown = np.full((max(size, 2 * len(array)), *array.shape[1:]), empty, np.int32)
    grown[: len(array)] = array
    return grown


@kernel
def word_weight(products: int) -> float:
    """How much a word says that so many products have."""
    return float(1.0 / (1.0 + 0.5 * np.log(1.0 + products)))


@kernel
def _listen(
    of_item: Any, counts: Any, own: Any, weights: Any, heard: Any, before: int, loud: Any
) -> int:
    """Fill `loud` by word, from zero, and `heard` with the words; returns how many."""
    for at in range(before):
        loud[heard[at]] = np.float32(0.0)
    found = 0
    for m in range(len(own)):
        if own[m] >= len(of_item):
            continue
        for code in of_item[own[m]]:
            if code == NONE:
                break
            if loud[code] == 0.0:
                heard[found] = code
                found += 1
            loud[code] += np.float32(weights[m] * word_weight(counts[code]))
    return found


@kernel
def likeness(of_item: Any, slot: int, loud: Any) -> float:
    """What an item shares with the words heard, over the root of how many words it has."""
    total, words = 0.0, 0
    if slot < len(of_item):
        for code in of_item[slot]:
            if code == NONE:
                break
            words += 1
            total += loud[code]
    return float(total / np.sqrt(1.0 + words))


@kernel
def _alike(
    of_item: Any, sharers: Any, heard: Any, loud: Any, scratch: Any, slots: Any, scores: Any
) -> int:
    order = np.argsort(-loud[heard])
    count = 0
    for place in range(min(len(heard), READ_WORDS)):
        for slot in sharers[heard[order[place]]]:
            if slot == NONE:
                break
            if slot < len(scratch) and scratch[slot] == 0.0:
                scratch[slot] = np.float32(1.0)
                slots[count] = slot
                count += 1
    for at in range(count):
        scratch[slots[at]] = np.float32(0.0)
        scores[at] = likeness(of_item, slots[at], loud)
    return count
