"""Re-ranking: what may be in a list at all, and which of the ranked items make a good one."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.columns import NONE, Slots
from models.popularity import Popularity
from recsys.candidates import Context
from recsys.catalogue import Catalogue
from recsys.event_batch import TYPE_CODES
from recsys.state import History


@dataclass(frozen=True)
class RerankConfig:
    """Rules of a list.

    Args:
        repeats: whether items the user already had may come again.
        had_types: an event of one of these types means that the user had the item.
        category_share_max: at most this share of a list is of one category; 1 switches it off.
    """

    repeats: bool = False
    had_types: tuple[str, ...] = ("view", "click", "cart", "purchase", "like", "rating")
    category_share_max: float = 1.0

    @cached_property
    def had_mask(self) -> int:
        """The types as bits, as in a user's entries."""
        return sum(1 << TYPE_CODES[name] for name in self.had_types)


def usable_items(
    config: RerankConfig, catalogue: Catalogue, past: History,
    allowed: NDArray[np.bool_] | None, similar_to: Slots,
) -> NDArray[np.bool_]:  # fmt: skip
    """Which items may be in a list: a mask over all slots.

    Out go: the unavailable, what the request's filter holds back, what the user dislikes or gave
    back (the sum of its events is not positive), what they had where repeats are off, and the
    items that the list is to be similar to.
    """
    catalogue.reserve()
    usable = catalogue.available[: len(catalogue.items)].copy()
    if allowed is not None:
        usable &= allowed
    if len(past.items):
        barred = past.weights <= 0
        if not config.repeats:
            barred |= (past.types & np.uint16(config.had_mask)) != 0
        usable[past.items[barred]] = False
    if len(similar_to):
        usable[similar_to] = False
    return usable


def choose(config: RerankConfig, context: Context, items: Slots, scores: NDArray[np.float32],
           k: int) -> NDArray[np.intp]:  # fmt: skip
    """Indices of the items that make the list, best first, at most k; caps by category."""
    order = np.argsort(-scores, kind="stable")
    if config.category_share_max >= 1.0:
        return order[:k]
    most = max(1, int(config.category_share_max * k))
    taken: dict[int, int] = {}
    chosen: list[int] = []
    for at, code in zip(order.tolist(), context.catalogue.category[items[order]].tolist(),
                        strict=True):  # fmt: skip
        if code != NONE and taken.get(code, 0) >= most:
            continue
        taken[code] = taken.get(code, 0) + 1
        chosen.append(at)
        if len(chosen) == k:
            break
    return np.array(chosen, np.intp)


def fill(popularity: Popularity, context: Context, listed: Slots, count: int) -> Slots:
    """`count` more usable items for a list that is too short: by popularity, then the newest."""
    rest = context.query.usable.copy()
    rest[listed] = False
    slots = np.flatnonzero(rest).astype(np.int32)
    if not len(slots):
        return slots
    table = context.items.tables[popularity.name]
    scores = popularity.scores_of(table, 2, context.query.clock, slots)
    return slots[np.lexsort((-slots, -scores))[:count]]
