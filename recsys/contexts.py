"""Contexts: what there is to look at for the lists that are made together, and for one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.base import Queries, Query, joined, joined_starts
from models.columns import Slots
from recsys.catalogue import Catalogue
from recsys.item_state import ItemState
from recsys.photos import Photo
from recsys.user_history import UserHistory


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """What n lists are made of, what is long in it one behind the other. Nothing may be written.

    List i's past items are [starts[i], starts[i + 1]) of `past`, and likewise its newest ones.
    """

    items: ItemState
    catalogue: Catalogue
    past: UserHistory
    starts: NDArray[np.int64]  # (n + 1,)
    recent_starts: NDArray[np.int64]  # (n + 1,)
    usable: NDArray[np.bool_]  # (n, items)
    queries: Queries
    longer: Queries  # as far back as any source looks, without a decay by position
    now_s: NDArray[np.float64]  # (n,)
    tokens: NDArray[np.uint32]  # (n,), what items know the users by, 0: not at all
    photos: Sequence[Photo | None]  # (n,), what the users' photos say, where there are any
    allowed: Sequence[NDArray[np.bool_] | None]  # (n,), requests' filters, over all item slots
    similar_to: Sequence[Slots]  # (n,), what requests' lists are like

    def __len__(self) -> int:
        return len(self.now_s)

    def __getitem__(self, number: int) -> "Context":
        return Context(self, range(len(self))[number])

    def __iter__(self) -> "Iterator[Context]":
        return (Context(self, number) for number in range(len(self)))

    @classmethod
    def joined(cls, several: "Sequence[Contexts]") -> "Contexts":
        """Those of several, at least one, one behind the other; all look at the same items."""
        first = several[0]
        if len(several) == 1:
            return first
        usable = _stacked([each.usable for each in several])
        return cls(
            first.items,
            first.catalogue,
            UserHistory.joined([each.past for each in several]),
            joined_starts([each.starts for each in several]),
            joined_starts([each.recent_starts for each in several]),
            usable,
            Queries.joined([each.queries for each in several], usable),
            Queries.joined([each.longer for each in several], usable),
            joined([each.now_s for each in several]),
            joined([each.tokens for each in several]),
            [photo for each in several for photo in each.photos],
            [allowed for each in several for allowed in each.allowed],
            [similar_to for each in several for similar_to in each.similar_to],
        )

    def part(self, first: int, last: int) -> "Contexts":
        """Those from the first to before the last, as views."""
        items = slice(self.starts[first], self.starts[last])
        newest = slice(self.recent_starts[first], self.recent_starts[last])
        return Contexts(
            self.items,
            self.catalogue,
            self.past.between(items, newest),
            self.starts[first : last + 1] - items.start,
            self.recent_starts[first : last + 1] - newest.start,
            self.usable[first:last],
            self.queries.part(first, last),
            self.longer.part(first, last),
            self.now_s[first:last],
            self.tokens[first:last],
            self.photos[first:last],
            self.allowed[first:last],
            self.similar_to[first:last],
        )

    def with_usable(self, usable: NDArray[np.bool_]) -> "Contexts":
        """The same, of other items; `usable` has shape (n, items)."""
        queries, longer = (replace(each, usable=usable) for each in (self.queries, self.longer))
        return replace(self, usable=usable, queries=queries, longer=longer)


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a source may look at for one list. Nothing in it may be written."""

    among: Contexts
    number: int

    @property
    def items(self) -> ItemState:
        return self.among.items

    @property
    def catalogue(self) -> Catalogue:
        return self.among.catalogue

    @property
    def history(self) -> UserHistory:
        """The user's past."""
        among, at = self.among, self.number
        return among.past.between(
            slice(among.starts[at], among.starts[at + 1]),
            slice(among.recent_starts[at], among.recent_starts[at + 1]),
        )

    @property
    def query(self) -> Query:
        """Who speaks for the user: their newest liked items, fading by position."""
        return self.among.queries.to(self.number)

    @property
    def longer(self) -> Query:
        """The same as far back as any source looks, without a decay by position."""
        return self.among.longer.to(self.number)

    @property
    def now_s(self) -> float:
        return float(self.among.now_s[self.number])

    @property
    def limit(self) -> int:
        """How many of a source's candidates can join the union."""
        return int(self.among.queries.limits[self.number])

    @property
    def allowed(self) -> NDArray[np.bool_] | None:
        """A request's filter, over all item slots."""
        return self.among.allowed[self.number]

    @property
    def photo(self) -> Photo | None:
        """What the user's photos say, where there are any."""
        return self.among.photos[self.number]

    @property
    def similar_to(self) -> Slots:
        """What a request's list is like."""
        return self.among.similar_to[self.number]

    @property
    def token(self) -> int:
        """What items know the user by, 0: not at all."""
        return int(self.among.tokens[self.number])

    def alone(self) -> Contexts:
        """It by itself."""
        return self.among.part(self.number, self.number + 1)


def _stacked(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """One below the other; items that came after a mask was made are not in it."""
    size = max(each.shape[1] for each in masks)
    return np.concatenate(
        [
            each if each.shape[1] == size else np.pad(each, ((0, 0), (0, size - each.shape[1])))
            for each in masks
        ]
    )
