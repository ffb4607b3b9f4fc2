"""What the ranker sees of a candidate: groups of columns, each filled for some lists at once.

To add a feature, add a group: its names, and a function that writes its columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models import audience
from models.popularity import Popularity
from models.scratch import Scratch
from recsys import feature_loops
from recsys.board import Unions
from recsys.contexts import Contexts


class Group(Protocol):
    """Some columns of a list's features."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """Write the columns; `out` has shape (all candidates, len(names)) and is zero."""


@dataclass(frozen=True)
class SourceScores:
    """The prior (mean share of each source's highest score), then each source's own score."""

    sources: Sequence[str]

    @property
    def names(self) -> tuple[str, ...]:
        return ("prior", "found-by", *(f"{name}:share" for name in self.sources))

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the scores of the union alone."""
        feature_loops.source_scores(unions.scores, unions.found, unions.starts, out)


@dataclass(frozen=True)
class ItemHistory:
    """How popular the item is at each half-life, whether it is rising, how old and how busy.

    Also at what stage users come to it beside this one's, and its level beside their newest items'.
    """

    popularity: Popularity

    @property
    def names(self) -> tuple[str, ...]:
        halves = tuple(f"popularity:{h:g}" for h in self.popularity.config.half_lives_events)
        return (*halves, "trend", "events", "users", "age", "idle", "repeated", "stage",
                "stage:off", "stage:unlike", "level:mean", "level:newest")  # fmt: skip

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the popularity's table."""
        queries, past = contexts.queries, np.diff(contexts.starts)
        feature_loops.item_histories(
            contexts.items.tables[self.popularity.name].rows, unions.items, unions.starts,
            self.popularity.half_lives, queries.clocks, contexts.now_s, queries.items,
            queries.weights, queries.starts, past, out,
        )  # fmt: skip


@dataclass
class OwnHistory:
    """What the user did with this very item: how often, how lately, in what rhythm."""

    def __post_init__(self) -> None:
        self._places = Scratch(np.int32)

    @property
    def names(self) -> tuple[str, ...]:
        return ("had", "had:count", "had:ago", "had:rhythm", "had:weight", "had:recency",
                "had:share", "had:since-first", "had:steps-ago", "had:rate", "steps")  # fmt: skip

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the user's entries."""
        past = contexts.past
        feature_loops.own_histories(
            unions.items, unions.starts, past.items, past.first_s, past.last_s, past.counts,
            past.weights, contexts.starts, past.recent, contexts.recent_starts, contexts.now_s,
            self._places.room(contexts.usable.shape[1]), out,
        )  # fmt: skip


@dataclass(frozen=True)
class User:
    """The user, the same for every candidate: how much and how lately they act, and repeat."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("user:events", "user:items", "user:ago", "user:repeats", "user:session")

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From sums over the entries."""
        past = contexts.past
        feature_loops.users(
            past.counts, past.last_s, contexts.starts, past.recent, contexts.recent_starts,
            contexts.now_s, unions.starts, out,
        )  # fmt: skip


@dataclass(frozen=True)
class Product:
    """Category, brand and price of the product beside those of the user's newest items."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("same-category", "same-brand", "price", "listed", "price:off", "words")

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the catalogue."""
        catalogue, queries = contexts.catalogue, contexts.queries
        heard, loud = catalogue.words.ears(len(queries.items))
        feature_loops.products(
            unions.items, unions.starts, queries.items, queries.weights, queries.starts,
            catalogue.category, catalogue.brand, catalogue.price, catalogue.listed,
            catalogue.words.of_item, catalogue.words.counts, heard, loud, out,
        )  # fmt: skip


@dataclass(frozen=True)
class Company:
    """Who came to the candidate lately, and to the user's newest items."""

    @property
    def names(self) -> tuple[str, ...]:
        return audience.FEATURES

    def fill(self, contexts: Contexts, unions: Unions, out: NDArray[np.float32]) -> None:
        """From the items' audiences."""
        table, past = contexts.items.tables[audience.Audience.name], contexts.longer
        audience.described(
            table, unions.items, unions.starts, past.items, past.starts, contexts.tokens, out
        )


class Features:
    """All groups side by side."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self.names = tuple(name for group in self.groups for name in group.names)
        stops = np.cumsum([len(group.names) for group in self.groups]).tolist()
        self._spans = [
            (group, slice(stop - len(group.names), stop))
            for group, stop in zip(self.groups, stops, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sources(self) -> slice:
        """The columns that are single sources' shares."""
        shares = [at for at, name in enumerate(self.names) if name.endswith(":share")]
        shares = [at for at in shares if not self.names[at].startswith("had")]
        return slice(shares[0], shares[-1] + 1) if shares else slice(0)

    @property
    def prior(self) -> NDArray[np.float64]:
        """What each feature counts before anything is learned, shape (len(self),).

        How popular in the long run, and less so what the sources mean in all.
        """
        longest = [name for name in self.names if name.startswith("popularity:")][-1:]
        counts = {"prior": 0.5, **{name: 1.0 for name in longest if not name.endswith(":share")}}
        return np.array([counts.get(name, 0.0) for name in self.names])

    def of(self, contexts: Contexts, unions: Unions) -> NDArray[np.float32]:
        """Features of some lists' candidates, shape (all candidates, len(self))."""
        count = len(unions.items)
        # Columns of one row alone are another layout, for which numba compiles all kernels anew.
        out = np.zeros((max(count, 2), len(self)), np.float32)
        for group, span in self._spans:
            group.fill(contexts, unions, out[:, span])
        return out[:count]


def default_groups(sources: Sequence[str], popularity: Popularity) -> tuple[Group, ...]:
    """The groups of a pipeline with these sources."""
    own = ItemHistory(popularity), OwnHistory(), User(), Product(), Company()
    return SourceScores(sources), *own
