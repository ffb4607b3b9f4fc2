"""Words of products: titles, categories, brands and tags as codes, and who shares them."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Answers, Queries, Scores
from models.columns import NONE
from models.kernels import kernel
from models.scratch import Scratch
from streams.events import Product

WORDS_MAX = 12  # words kept of a product
SHARERS = 64  # newest products remembered of a word
READ_WORDS = 8  # words of a user's items that bring candidates
_WORD = re.compile(r"[^\W_]{2,}")


class Words:
    """Word codes by item slot, shape (capacity, 12), -1 behind the last; and back."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._words: list[str] = []  # by code
        self._free: list[int] = []  # codes of words that no product has any more
        self.of_item: NDArray[np.int32] = np.full((64, WORDS_MAX), NONE, np.int32)
        self.counts: NDArray[np.int32] = np.zeros(64, np.int32)  # products of each word
        self.sharers: NDArray[np.int32] = np.full((64, SHARERS), NONE, np.int32)
        self._entered: NDArray[np.int32] = np.zeros(64, np.int32)  # sharers a word ever had
        self._left: set[int] = set()  # slots that lost a word: it may remember them
        self._loud = Scratch(np.float32)
        self._heard = Scratch(np.int32)

    def put(self, slot: int, product: Product) -> None:
        """A product's words instead of those it had."""
        words = list(dict.fromkeys(_words_of(product)))[:WORDS_MAX]
        codes = [self._code(word) for word in words]
        self.of_item = _room(self.of_item, slot + 1, NONE)
        self.counts = _room(self.counts, len(self._words), 0)
        self.sharers = _room(self.sharers, len(self._words), NONE)
        self._entered = _room(self._entered, len(self._words), 0)
        had = self.of_item[slot].tolist()
        for code in codes:
            if code not in had:
                self.counts[code] += 1
                if slot not in self._left or slot not in self.sharers[code]:
                    self.sharers[code, self._entered[code] % SHARERS] = slot
                    self._entered[code] += 1
        self._lose(slot, [code for code in had if code not in codes])
        self.of_item[slot] = NONE
        self.of_item[slot, : len(codes)] = codes

    def _code(self, word: str) -> int:
        code = self._codes.get(word)
        if code is None:
            code = self._free.pop() if self._free else len(self._words)
            self._words[code : code + 1] = [word]
            self._codes[word] = code
        return code

    def clear(self, slot: int) -> None:
        """A product without words, as one that is gone."""
        if slot < len(self.of_item):
            self._lose(slot, self.of_item[slot].tolist())
            self.of_item[slot] = NONE

    def _lose(self, slot: int, codes: Iterable[int]) -> None:
        """A product lost words. They remember it until newer ones take its place among them."""
        lost = [code for code in codes if code != NONE]
        if lost:
            self.counts[lost] -= 1
            self._left.add(slot)
            for code in lost:
                if not self.counts[code]:  # the next new word may have its place
                    del self._codes[self._words[code]]
                    self.sharers[code], self._entered[code] = NONE, 0
                    self._free.append(code)

    def reserve(self, size: int) -> None:
        """Room for so many slots."""
        self.of_item = _room(self.of_item, size, NONE)

    def ears(self, items: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Room to `listen` to so many items: for the words heard, and how loud each is, all 0."""
        return self._heard.room(items * WORDS_MAX), self._loud.room(len(self.counts))

    def alike(self, queries: Queries, scratch: Scores) -> Answers:
        """Products that share the heaviest words of each query's items, with what they share.

        `scratch` has a place a slot, and is zero before and after.
        """
        slots = np.empty(len(queries) * READ_WORDS * SHARERS, np.int32)
        scores = np.empty(len(slots), np.float32)
        starts, stops = np.empty(len(queries), np.int64), np.empty(len(queries), np.int64)
        heard, loud = self.ears(len(queries.items))
        _alike_of_all(
            self.of_item, self.counts, self.sharers, queries.items, queries.weights,
            queries.starts, heard, loud, scratch, slots, scores, starts, stops,
        )  # fmt: skip
        return Answers(slots[: stops[-1]], scores[: stops[-1]], starts, stops)


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
def listen(of_item: Any, counts: Any, own: Any, weights: Any, heard: Any, loud: Any) -> int:
    """Hear the words of weighted items: `heard` has them, `loud` what each counts, 0 before.

    Returns how many different ones there are; `hush` them before others are heard.
    """
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
def hush(heard: Any, found: int, loud: Any) -> None:
    """Forget the words that were heard."""
    for at in range(found):
        loud[heard[at]] = np.float32(0.0)


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
def _alike_of_all(
    of_item: Any, counts: Any, sharers: Any, own: Any, weights: Any, bounds: Any, heard: Any,
    loud: Any, scratch: Any, slots: Any, scores: Any, starts: Any, stops: Any,
) -> None:  # fmt: skip
    count = 0
    for user in range(len(starts)):
        first, last = bounds[user], bounds[user + 1]
        found = listen(of_item, counts, own[first:last], weights[first:last], heard, loud)
        starts[user] = count
        count += _alike(
            of_item, sharers, heard[:found], loud, scratch, slots[count:], scores[count:]
        )
        stops[user] = count
        hush(heard, found, loud)


@kernel
def _alike(
    of_item: Any, sharers: Any, heard: Any, loud: Any, scratch: Any, slots: Any, scores: Any
) -> int:
    loudest, held = np.empty(READ_WORDS, np.int32), 0
    for code in heard:  # the loudest first; the one heard first among equals
        place = held
        while place > 0 and loud[code] > loud[loudest[place - 1]]:
            place -= 1
        if place < READ_WORDS:
            held = min(held + 1, READ_WORDS)
            for at in range(held - 1, place, -1):
                loudest[at] = loudest[at - 1]
            loudest[place] = code
    count = 0
    for code in loudest[:held]:
        for slot in sharers[code]:
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
