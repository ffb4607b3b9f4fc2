"""What goes into a list beside its ranking: items that a rule puts there, and new ones tried out.

Who explores must log how likely each choice was, or nothing can be learned from the log about
another choice. Exploring is an epsilon draw for the list's last place, so its propensities are
exact: 1 - share for the ranked item, share / n for each of the n new ones, 1 everywhere else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.columns import Slots
from models.popularity import Popularity
from recsys.contexts import Context
from recsys.ranked import BY_RULE, EXPLORED, Ranked
from recsys.rerank import RerankConfig
from recsys.rules import Applied
from recsys.twins import Twins
from recsys.variants import place_of


@dataclass(frozen=True, slots=True)
class Exploration:
    """The draw of a list: with probability `share` one of `pool` takes the place."""

    place: int
    share: float
    pool: Slots  # (n,), n >= 1

    def draw(self, key: str) -> int | None:
        """The item that is tried out, or None; always the same for a key."""
        if place_of(key, "explore") >= self.share:
            return None
        return int(self.pool[int(place_of(key, "explore-item") * len(self.pool))])


@dataclass(frozen=True, slots=True)
class Policy:
    """A list as a policy: what is ranked, and what may be drawn in its stead."""

    ranked: Ranked
    exploration: Exploration | None

    def shown(self, key: str) -> Ranked:
        """The list that is shown, with the propensity of each of its items."""
        tried = self.exploration
        if tried is None:
            return self.ranked
        item = tried.draw(key)
        if item is None:
            return self.ranked.with_propensity(tried.place, 1.0 - tried.share)
        share = tried.share / len(tried.pool)
        return self.ranked.with_item(tried.place, item, EXPLORED, share)

    def odds(self) -> dict[int, float]:
        """The items that may be in the list, with how likely each one is to be in it."""
        tried = self.exploration
        odds = dict.fromkeys(self.ranked.items.tolist(), 1.0)
        if tried is not None:
            odds[int(self.ranked.items[tried.place])] = 1.0 - tried.share
            odds |= dict.fromkeys(tried.pool.tolist(), tried.share / len(tried.pool))
        return odds

    def probability(self, place: int, item: int) -> float:
        """How likely an item is to be shown at a place."""
        ranked = place < len(self.ranked) and int(self.ranked.items[place]) == item
        tried = self.exploration
        if tried is None or place != tried.place:
            return float(ranked)
        if ranked:
            return 1.0 - tried.share
        return tried.share / len(tried.pool) if item in tried.pool else 0.0


def exploration(
    config: RerankConfig, context: Context, twins: Twins, ranked: Ranked
) -> Exploration | None:
    """The draw for a list: among new and rare products that it may hold and does not."""
    if config.explore_share <= 0.0:
        return None
    free = np.flatnonzero(ranked.lead != BY_RULE)
    if not len(free):
        return None
    place = int(free[-1])
    newest = _known(context, context.catalogue.newest())
    few = context.items.tables[Popularity.name]["events"][newest] < config.fresh_events
    others = twins.of(np.delete(ranked.items, place))
    listed = np.isin(newest, ranked.items) | np.isin(newest, others)
    pool = newest[few & context.query.usable[newest] & ~listed]
    return Exploration(place, config.explore_share, pool) if len(pool) else None


def include(
    rules: Applied, popularity: Popularity, context: Context, twins: Twins, ranked: Ranked
) -> Ranked:
    """Each include's most popular items, where the list may hold them, take its last places.

    One whose twin is listed takes the twin's place, or none.
    """
    for included, places in rules.included:
        slots = _known(context, included)
        missing = places - int(np.isin(ranked.items, slots).sum())
        wanted = slots[context.query.usable[slots] & ~np.isin(slots, ranked.items)]
        if missing <= 0 or not len(wanted):
            continue
        for item in _best(popularity, context, wanted).tolist():
            free = (ranked.lead != BY_RULE) & ~np.isin(ranked.items, slots)
            if not missing or not free.any():
                break
            alike = np.isin(ranked.items, twins.of(np.array([item], np.int32)))
            at = np.flatnonzero(free & alike if alike.any() else free)
            if len(at):
                ranked = ranked.with_item(int(at[-1]), item, BY_RULE, 1.0)
                missing -= 1
    return ranked


def _known(context: Context, slots: Slots) -> Slots:
    """Those of some slots that there were when the list was asked for."""
    return slots[slots < len(context.query.usable)]


def _best(popularity: Popularity, context: Context, slots: Slots) -> NDArray[np.int32]:
    table = context.items.tables[popularity.name]
    scores = popularity.scores_of(table, 2, context.query.clock, slots)
    return slots[np.lexsort((slots, -scores))]
