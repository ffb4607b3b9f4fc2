"""Weights of ordered pairs of items: as many as were met, however many items there are.

A row is a chain of blocks, the newest first; a hash of places finds a pair in its row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import kernel

BLOCK = 16  # pairs
PAIRS_MAX = 1 << 26  # about a gigabyte
NONE = -1


class TooManyPairsError(ValueError):
    """The log has more pairs of items than may be counted."""


class Pairs:
    """A sparse square matrix of items that grows by what is added.

    >>> pairs = Pairs(3)
    >>> pairs.add(np.array([0, 0, 0]), np.array([1, 2, 1]), np.ones(3, np.float32))
    >>> out = np.zeros(3, np.float32)
    >>> pairs.read(np.array([0]), np.array([0.5], np.float32), out)
    >>> out.tolist()
    [0.0, 1.0, 0.5]
    """

    def __init__(self, n_items: int) -> None:
        self._heads = np.full(n_items, NONE, np.int32)  # each row's newest block
        self._lengths = np.zeros(n_items, np.int32)
        self._owners, self._links = np.empty((2, 0), np.int32)  # each block's row, and the older
        self._others = np.empty((0, BLOCK), np.int32)
        self._weights = np.empty((0, BLOCK), np.float32)
        self._places = np.full(16, NONE, np.int32)
        self._blocks = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self, items: NDArray[Any], others: NDArray[Any], weights: NDArray[np.float32]
    ) -> None:  # fmt: skip
        """Add a weight to each of the pairs (items[i], others[i]).

        Raises:
            TooManyPairsError: there would be more than `PAIRS_MAX`.
        """
        self._reserve(len(others))
        self._blocks, self._count = _add(
            np.asarray(items, np.int32), np.asarray(others, np.int32), weights, self._heads,
            self._lengths, self._owners, self._links, self._others, self._weights, self._places,
            self._blocks, self._count,
        )  # fmt: skip

    def read(
        self, items: NDArray[Any], weights: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Add the items' rows to `out`, each times its weight; columns beyond it are left out."""
        _read(
            np.asarray(items, np.int32), weights, self._heads, self._lengths, self._links,
            self._others, self._weights, out,
        )  # fmt: skip

    def scale(self, factor: float) -> None:
        """Multiply every weight."""
        self._weights *= np.float32(factor)

    def _reserve(self, count: int) -> None:
        """Room for so many pairs more, should each be new and begin a block."""
        if self._count + count > PAIRS_MAX:
            raise TooManyPairsError(f"it counts pairs of items, and has met {PAIRS_MAX:,} of them")
        if self._blocks + count > len(self._owners):
            more = max(len(self._owners), count, 1024)
            self._owners = np.concatenate([self._owners, np.empty(more, np.int32)])
            self._links = np.concatenate([self._links, np.empty(more, np.int32)])
            self._others = np.concatenate([self._others, np.empty((more, BLOCK), np.int32)])
            self._weights = np.concatenate([self._weights, np.zeros((more, BLOCK), np.float32)])
        if 2 * (self._count + count) > len(self._places):
            size = 1 << (4 * (self._count + count)).bit_length()
            self._places = np.full(size, NONE, np.int32)
            _place_all(
                self._blocks, self._heads, self._lengths, self._owners, self._others, self._places
            )


@kernel
def _slot(item: int, other: int, owners: Any, others: Any, places: Any) -> int:
    """Where in `places` a pair is, or would be."""
    mask = len(places) - 1
    mixed = (np.uint64(item) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(other)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    at = int(mixed >> np.uint64(32)) & mask
    while places[at] != NONE:
        block, inside = places[at] // BLOCK, places[at] % BLOCK
        if others[block, inside] == other and owners[block] == item:
            break
        at = (at + 1) & mask
    return at


@kernel
def _add(
    items: Any, added: Any, by: Any, heads: Any, lengths: Any, owners: Any, links: Any, others: Any,
    weights: Any, places: Any, blocks: int, count: int,
) -> tuple[int, int]:  # fmt: skip
    for n in range(len(items)):
        item = items[n]
        at = _slot(item, added[n], owners, others, places)
        if places[at] == NONE:
            inside = lengths[item] % BLOCK
            if inside == 0:
                owners[blocks], links[blocks] = item, heads[item]
                heads[item] = blocks
                blocks += 1
            others[heads[item], inside], weights[heads[item], inside] = added[n], np.float32(0.0)
            places[at] = heads[item] * BLOCK + inside
            lengths[item] += 1
            count += 1
        weights[places[at] // BLOCK, places[at] % BLOCK] += by[n]
    return blocks, count


@kernel
def _place_all(
    blocks: int, heads: Any, lengths: Any, owners: Any, others: Any, places: Any
) -> None:  # fmt: skip
    """Enter every pair into an empty hash."""
    for block in range(blocks):
        item = owners[block]
        held = (lengths[item] - 1) % BLOCK + 1 if heads[item] == block else BLOCK
        for inside in range(held):
            at = _slot(item, others[block, inside], owners, others, places)
            places[at] = block * BLOCK + inside


@kernel
def _read(
    items: Any, by: Any, heads: Any, lengths: Any, links: Any, others: Any, weights: Any, out: Any
) -> None:
    for n in range(len(items)):
        block = heads[items[n]]
        held = (lengths[items[n]] - 1) % BLOCK + 1
        while block != NONE:
            for inside in range(held):
                if others[block, inside] < len(out):
                    out[others[block, inside]] += by[n] * weights[block, inside]
            block, held = links[block], BLOCK
