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

    def alike(
        self, own: Slots, weights: NDArray[np.float32], scratch: Scores
    ) -> tuple[Slots, Scores]:
        """Products that share the heaviest words of weighted items, with what they share.

        `scratch` has a place a slot, and is zero before and after.
        """
        slots = np.empty(READ_WORDS * SHARERS, np.int32)
        scores = np.empty(len(slots), np.float32)
        count = _alike(
            self.of_item, self.counts, self.sharers, own, weights, scratch, slots, scores
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
def heard(of_item: Any, counts: Any, own: Any, weights: Any, codes: Any, loud: Any) -> int:
    """The words of weighted items with their weights; returns how many different ones."""
    found = 0
    for m in range(len(own)):
        if own[m] >= len(of_item):
            continue
        for code in of_item[own[m]]:
            if code == NONE:
                break
            at = 0
            while at < found and codes[at] != code:
                at += 1
            if at == found:
                codes[at], loud[at] = code, np.float32(0.0)
                found += 1
            loud[at] += np.float32(weights[m] * word_weight(counts[code]))
    return found


@kernel
def likeness(of_item: Any, slot: int, codes: Any, loud: Any, found: int) -> float:
    """What an item shares with words heard, over the root of how many words it has."""
    total, words = 0.0, 0
    if slot < len(of_item):
        for code in of_item[slot]:
            if code == NONE:
                break
            words += 1
            for at in range(found):
                if codes[at] == code:
                    total += loud[at]
                    break
    return float(total / np.sqrt(1.0 + words))


@kernel
def _alike(
    of_item: Any, counts: Any, sharers: Any, own: Any, weights: Any, scratch: Any, slots: Any,
    scores: Any,
) -> int:  # fmt: skip
    codes = np.empty(max(len(own), 1) * WORDS_MAX, np.int32)
    loud = np.empty(len(codes), np.float32)
    found = heard(of_item, counts, own, weights, codes, loud)
    order = np.argsort(-loud[:found])
    count = 0
    for place in range(min(found, READ_WORDS)):
        for slot in sharers[codes[order[place]]]:
            if slot == NONE:
                break
            if slot < len(scratch) and scratch[slot] == 0.0:
                scratch[slot] = np.float32(1.0)
                slots[count] = slot
                count += 1
    for at in range(count):
        scratch[slots[at]] = np.float32(0.0)
        scores[at] = likeness(of_item, slots[at], codes, loud, found)
    return count
