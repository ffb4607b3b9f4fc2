"""Contexts: what there is to look at for a list, and for several lists that are made together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.base import NO_SLOTS, Queries, Query, starts_of
from models.columns import Slots
from models.history import CONTEXT_SIZE, RECENT_SIZE, newest_liked
from recsys.catalogue import Catalogue
from recsys.item_state import ItemState
from recsys.photos import Photo
from recsys.user_state import History


@dataclass(frozen=True, slots=True)
class Context:
    """What a source may look at for one list. Nothing in it may be written."""

    items: ItemState
    catalogue: Catalogue
    history: History
    query: Query
    longer: Query  # as far back as any source looks, without a decay by position
    now_s: float
    limit: int  # how many of a source's candidates can join the union
    allowed: NDArray[np.bool_] | None = None  # a request's filter, over all item slots
    photo: Photo | None = None  # what the user's photos say, where there are any
    similar_to: Slots = field(default_factory=lambda: NO_SLOTS)  # what a request's list is like
    token: int = 0  # what items know the user by, 0: not at all


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of n lists, what is long in them one behind the other.

    List i's items are [starts[i], starts[i + 1]) of `past`, and likewise its newest ones.
    """

    each: Sequence[Context]
    usable: NDArray[np.bool_]  # (n, items)
    queries: Queries
    longer: Queries
    past: History
    starts: NDArray[np.int64]  # (n + 1,)
    recent_starts: NDArray[np.int64]  # (n + 1,)
    now_s: NDArray[np.float64]  # (n,)
    tokens: NDArray[np.uint32]  # (n,)

    def __len__(self) -> int:
        return len(self.each)

    @property
    def items(self) -> ItemState:
        return self.each[0].items

    @property
    def catalogue(self) -> Catalogue:
        return self.each[0].catalogue

    @classmethod
    def of(cls, contexts: Sequence[Context]) -> "Contexts":
        """Those contexts, at least one; all look at the same items."""
        usable = _stacked([context.query.usable for context in contexts])
        past = [context.history for context in contexts]
        whole = past[0] if len(past) == 1 else History.joined(past)
        return cls(
            contexts,
            usable,
            Queries.of([context.query for context in contexts], usable),
            Queries.of([context.longer for context in contexts], usable),
            whole,
            starts_of([each.items for each in past]),
            starts_of([each.recent for each in past]),
            np.array([context.now_s for context in contexts]),
            np.array([context.token for context in contexts], np.uint32),
        )

    def part(self, first: int, last: int) -> "Contexts":
        """Those from the first to before the last, as views."""
        items = slice(self.starts[first], self.starts[last])
        newest = slice(self.recent_starts[first], self.recent_starts[last])
        return Contexts(
            self.each[first:last],
            self.usable[first:last],
            self.queries.part(first, last),
            self.longer.part(first, last),
            self.past.between(items, newest),
            self.starts[first : last + 1] - items.start,
            self.recent_starts[first : last + 1] - newest.start,
            self.now_s[first:last],
            self.tokens[first:last],
        )


def _stacked(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """One below the other; items that came after a mask was made are not in it."""
    if len(masks) == 1:
        return masks[0][None]
    size = max(map(len, masks))
    out = np.zeros((len(masks), size), np.bool_)
    for row, mask in zip(out, masks, strict=True):
        row[: len(mask)] = mask
    return out


def queries_of(
    past: History, now_s: float, clock: float, usable: NDArray[np.bool_], limit: int, *,
    position_decay: float = 0.9, similar_to: Slots = NO_SLOTS,
    taste: NDArray[np.float32] | None = None,
) -> tuple[Query, Query]:  # fmt: skip
    """Who speaks for a user: their newest liked items, behind those a list is to be similar to.

    The first has 16 of them, each `position_decay` as loud as the one before it; the second all
    that are kept, as loud as their weights.
    """
    items = np.empty(RECENT_SIZE + len(similar_to), np.int32)
    weights, ages_s = np.empty(len(items), np.float32), np.empty(len(items), np.float32)
    count = newest_liked(
        past.items, past.last_s, past.weights, past.recent, similar_to, now_s, 1.0,
        RECENT_SIZE, items, weights, ages_s,
    )  # fmt: skip
    items, weights, ages_s = items[:count], weights[:count], ages_s[:count]
    near = min(count, max(CONTEXT_SIZE, len(similar_to)))
    fading = weights[:near] * powers_of(position_decay, near)
    return (
        Query(items[:near], fading, ages_s[:near], clock, usable, limit, taste),
        Query(items, weights, ages_s, clock, usable, limit, taste),
    )


@lru_cache
def powers_of(decay: float, count: int) -> NDArray[np.float32]:
    """1, decay, decay^2 and so on, for reading only.

    >>> powers_of(0.5, 3).tolist()
    [1.0, 0.5, 0.25]
    """
    powers = decay ** np.arange(count, dtype=np.float32)
    powers.flags.writeable = False
    return powers
