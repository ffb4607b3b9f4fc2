"""Re-ranking: what may be in a list at all, and which of the ranked items make a good one."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import NONE, Slots
from models.kernels import kernel
from models.logs import logs
from models.popularity import Popularity
from models.profile import Profile
from recsys.catalogue import Catalogue
from recsys.contexts import Context
from recsys.event_batch import TYPE_CODES
from recsys.twins import Twins
from recsys.user_state import UserState

PRICE_BAND_FIRST = 1_000  # bands of prices below 1 are counted from here down
IMPRESSION_HALF_LIFE_S = 86_400.0
ROUNDING = 1e-9  # shares of lists are written in decimals, which floats are not
POOL = 5  # times k: as many of the best are looked at for a list that is spread


@dataclass(frozen=True)
class RerankConfig:
    """Rules of a list.

    Args:
        repeats: whether items the user already had may come again.
        had_types: an event of one of these types means that the user had the item.
        category_share_max: at most this share of a list is of one category; 1 switches it off.
        brand_share_max: the same of one brand.
        price_band_share_max: the same of one band of prices; a band's end is twice its beginning.
        diversity: weight of being unlike the items above (MMR), 0 to 1; 0 switches it off.
        fresh_share: share of a list kept for the best of the new and the rare, where there are any.
        fresh_events: an item with fewer events than this is new or rare.
        explore_share: share of lists whose last place is drawn evenly from the new and the rare.
        impression_discount: what each impression that was not acted on takes off an item's score
            for that user, as log odds; half of it is gone after a day.
        rare_lift: weight of the logarithm of an item's events, taken off its score where the list
            may hold what its user had.
    """

    repeats: bool = False
    had_types: tuple[str, ...] = ("view", "click", "cart", "purchase", "like", "rating")
    category_share_max: float = 1.0
    brand_share_max: float = 1.0
    price_band_share_max: float = 1.0
    diversity: float = 0.0
    fresh_share: float = 0.0
    fresh_events: int = 5
    explore_share: float = 0.0
    impression_discount: float = 0.1
    rare_lift: float = 0.07

    @property
    def caps(self) -> tuple[float, float, float]:
        """The largest shares: of a category, a brand, a band of prices."""
        return self.category_share_max, self.brand_share_max, self.price_band_share_max

    @cached_property
    def plain(self) -> bool:
        """Whether a list is simply the best of what was ranked."""
        return min(self.caps) >= 1.0 and self.diversity <= 0.0 and self.fresh_share <= 0.0

    def lift(self, had: int) -> float:
        """How much a list lifts the rare whose user had so many items."""
        return self.rare_lift if self.repeats and had else 0.0

    @cached_property
    def had_mask(self) -> int:
        """The types as bits, as in a user's entries."""
        return sum(1 << TYPE_CODES[name] for name in self.had_types)


def listable_items(
    catalogue: Catalogue, allowed: NDArray[np.bool_] | None, excluded: NDArray[np.bool_] | None,
    similar_to: Slots,
) -> NDArray[np.bool_]:  # fmt: skip
    """Which items may be in a list, whoever it is for: a mask over all slots.

    Out go: the unavailable, what has no id, what the request's filter or a rule holds back, and the
    items that the list is to be similar to. What the user had or dislikes goes where lists are
    gathered.
    """
    listable = catalogue.recommendable()
    if allowed is not None:
        listable &= allowed
    if excluded is not None:
        listable &= ~excluded
    listable[similar_to] = False
    return listable


def choose(
    config: RerankConfig, context: Context, items: Slots, scores: Scores, k: int
) -> NDArray[np.intp]:
    """Indices of the items that make the list, in its order, at most k.

    By score; or greedily by maximal marginal relevance (Carbonell and Goldstein 1998), where two
    items are alike by category and by the cosine of their vectors.
    """
    if config.plain:
        best = np.empty(min(k, len(scores)), np.intp)
        _highest(scores, best)
        return best
    order = np.argsort(-scores, kind="stable")
    if min(config.caps) < 1.0 or config.diversity > 0.0:
        order = _spread(config, context, items, scores, order[: POOL * k], k)
    if config.fresh_share > 0.0:
        return _with_fresh(config, context, items, order, np.argsort(-scores, kind="stable"), k)
    return order[:k]


def _spread(
    config: RerankConfig, context: Context, items: Slots, scores: Scores, pool: NDArray[np.intp],
    k: int,
) -> NDArray[np.intp]:  # fmt: skip
    if not len(pool):
        return pool
    vectors = context.items.tables[Profile.name]["vector"]
    chosen = np.empty(min(k, len(pool)), np.intp)
    groups = groups_of(context.catalogue, items[pool])
    count = _greedy(
        items[pool], scores[pool], groups, _most(config, k), vectors, config.diversity, chosen
    )  # fmt: skip
    return pool[chosen[:count]]


def _most(config: RerankConfig, k: int) -> NDArray[np.int64]:
    """How many of a category, a brand, a band of prices a list of k may hold."""
    return np.array([most_of(share, k) for share in config.caps])


def most_of(share: float, k: int) -> int:
    """How many of a list of k a share is, 1 at least; .29 of 100 are 29, whatever floats say."""
    return max(1, int(share * k + ROUNDING))


def _fitting(
    groups: NDArray[np.int32], held: NDArray[np.int32], most: NDArray[np.int64], count: int
) -> NDArray[np.intp]:
    """The first rows of `groups`, `count` at most, that a list may take to those it has `held`."""
    fits, chosen = np.ones(len(groups), np.bool_), list[int]()
    while True:
        for group, codes in enumerate(held.T):
            known, times = np.unique(codes[codes != NONE], return_counts=True)
            full = known[times >= most[group]]
            fits &= ~np.isin(groups[:, group], full)
        if len(chosen) == count or not fits.any():
            return np.array(chosen, np.intp)
        chosen.append(int(fits.argmax()))
        fits[chosen[-1]] = False
        held = np.vstack([held, groups[chosen[-1]]])


def groups_of(catalogue: Catalogue, items: Slots) -> NDArray[np.int32]:
    """Category, brand and price band of items, shape (len(items), 3); -1: none."""
    price = catalogue.price[items]
    known = price > 0
    band = np.full(len(items), NONE, np.int32)
    band[known] = np.floor(np.log2(price[known])) + PRICE_BAND_FIRST
    return np.stack([catalogue.category[items], catalogue.brand[items], band], axis=1)


def _with_fresh(
    config: RerankConfig, context: Context, items: Slots, listed: NDArray[np.intp],
    order: NDArray[np.intp], k: int,
) -> NDArray[np.intp]:  # fmt: skip
    """The list's last places go to the best new or rare candidates, as many as are missing.

    As many of them as caps let in beside what does not give way.
    """
    fresh = context.items.tables[Popularity.name]["events"][items] < config.fresh_events
    listed = listed[:k]
    missing = int(np.ceil(config.fresh_share * k - ROUNDING)) - int(fresh[listed].sum())
    others = order[fresh[order] & ~np.isin(order, listed)]
    room = k - len(listed)
    known = np.flatnonzero(~fresh[listed])
    groups, most = groups_of(context.catalogue, items), _most(config, k)
    wanted = min(max(missing, 0), len(others), room + len(known))
    while wanted > 0:
        stay = np.delete(listed, known[len(known) - max(wanted - room, 0) :])
        new = others[_fitting(groups[others], groups[stay], most, wanted)]
        if len(new) == wanted:
            return np.concatenate([stay, new])
        wanted = len(new)  # who gave way for the others comes back
    return listed


def fill(
    config: RerankConfig, popularity: Popularity, context: Context, twins: Twins, listed: Slots,
    k: int,
) -> Slots:  # fmt: skip
    """More usable items, nobody's twins, for a list that is short of k.

    By popularity, then the newest; what caps keep out only where the list would stay short.
    """
    rest, alike = context.query.usable.copy(), twins.of(listed)
    rest[listed] = False
    rest[alike[alike < len(rest)]] = False  # some may be newer than what the list was asked for
    slots = np.flatnonzero(rest).astype(np.int32)
    if not len(slots):
        return slots
    table = context.items.tables[popularity.name]
    scores = popularity.scores_of(table, 2, context.query.clock, slots)
    slots, count = slots[np.lexsort((-slots, -scores))], k - len(listed)
    slots = slots[twins.single(slots, np.zeros(len(slots), np.float32))]
    if min(config.caps) < 1.0:
        held, groups = groups_of(context.catalogue, listed), groups_of(context.catalogue, slots)
        fitting = _fitting(groups, held, _most(config, k), count)
        slots = np.concatenate([slots[fitting], np.delete(slots, fitting)])
    return slots[:count]


def lift_rare(
    scores: Scores, starts: NDArray[np.int64], events: NDArray[np.integer[Any]],
    lifts: NDArray[np.float32],
) -> Scores:  # fmt: skip
    """Scores of some lists, less the logarithm of each item's events times the list's lift.

    Logit adjustment (Menon et al. 2021): who orders by odds alone lists the popular in the place
    of rare items that their user comes back to. List i's scores are [starts[i], starts[i + 1]).
    """
    loud = events.astype(np.float32) + np.float32(1.0)
    logs(loud)
    return np.asarray(scores - np.repeat(lifts, np.diff(starts)) * loud, np.float32)


def shown_in_vain(
    config: RerankConfig, users: UserState, user_slot: int, items: Slots, now_s: float
) -> Scores:
    """What a user's unanswered impressions take off the scores of items."""
    discount = np.float32(config.impression_discount)
    if not discount:
        return np.zeros(len(items), np.float32)
    return discount * users.shown.unanswered(user_slot, items, now_s, IMPRESSION_HALF_LIFE_S)


def choose_best(
    scores: Scores, starts: NDArray[np.int64], k: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The rows of several lists' k highest scores, and where each list's rows start.

    List i's scores are [starts[i], starts[i + 1]).
    """
    count = len(starts) - 1
    chosen, bounds = np.empty(count * k, np.intp), np.zeros(count + 1, np.int64)
    _highest_of_all(scores, starts, k, chosen, bounds)
    return chosen[: bounds[-1]], bounds


@kernel
def _highest_of_all(scores: Any, starts: Any, k: int, chosen: Any, bounds: Any) -> None:
    for n in range(len(starts) - 1):
        start, stop = starts[n], starts[n + 1]
        first, last = bounds[n], bounds[n] + min(k, stop - start)
        _highest(scores[start:stop], chosen[first:last])
        chosen[first:last] += start
        bounds[n + 1] = last


@kernel
def _highest(scores: Any, best: Any) -> None:
    """Places of the highest scores, the highest first; the first one among equals."""
    count = 0
    for at in range(len(scores)):
        place = count
        while place > 0 and scores[at] > scores[best[place - 1]]:
            place -= 1
        if place < len(best):
            count = min(count + 1, len(best))
            for n in range(count - 1, place, -1):
                best[n] = best[n - 1]
            best[place] = at


@kernel
def _greedy(
    items: Any, scores: Any, groups: Any, most: Any, vectors: Any, diversity: float, chosen: Any
) -> int:
    size, width = len(items), vectors.shape[1]
    low, high = np.min(scores), np.max(scores)
    alike = np.zeros(size)
    taken = np.zeros(size, np.bool_)
    count = 0
    while count < len(chosen):
        best, value = NONE, -np.inf
        for at in range(size):
            if taken[at]:
                continue
            relevance = (scores[at] - low) / max(high - low, 1e-12)
            marginal = (1.0 - diversity) * relevance - diversity * alike[at]
            if marginal > value:
                fits = True
                for g in range(groups.shape[1]):
                    same, code = 0, groups[at, g]
                    for n in range(count):
                        same += code != NONE and groups[chosen[n], g] == code
                    fits = fits and same < most[g]
                if fits:
                    best, value = at, marginal
        if best == NONE:
            break
        taken[best] = True
        chosen[count] = best
        count += 1
        for at in range(size):
            if not taken[at]:
                cosine = 0.0
                for i in range(width):
                    cosine += vectors[items[at], i] * vectors[items[best], i]
                code = groups[at, 0]
                same_category = code != NONE and code == groups[best, 0]
                alike[at] = max(alike[at], 0.5 * same_category + 0.5 * max(cosine, 0.0))
    return count
