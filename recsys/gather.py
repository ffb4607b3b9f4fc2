"""Gathering: what the lists of some users are to be made of, read off their state in one pass."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import NO_SLOTS, Queries
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, RECENT_SIZE, newest_liked, read_history
from models.kernels import kernel
from recsys.catalogue import Catalogue
from recsys.contexts import Contexts
from recsys.photos import Photo
from recsys.user_state import History, UserState

Mask = NDArray[np.bool_]


def gather(
    users: UserState, catalogue: Catalogue, slots: Sequence[int], times_ms: Sequence[int],
    limit: int, had: Sequence[int], listable: Mask, *, position_decay: float = 0.9,
    photos: Sequence[Photo | None] = (), tastes: Sequence[NDArray[np.float32] | None] = (),
    allowed: Mask | None = None, similar_to: Slots = NO_SLOTS,
) -> Contexts:  # fmt: skip
    """The contexts of users as they are now: copies, so that they stay as they are.

    Users speak by their newest liked items, behind those a list is to be similar to: in `queries`
    by 16 of them, each `position_decay` as loud as the one before it; in `longer` by all that are
    kept, as loud as their weights. Out of what is `listable` go what a user dislikes or gave back
    (the sum of its events is not positive), and what they had.

    Args:
        slots: users, -1: a stranger.
        times_ms: as of when, one each.
        had: for each, the types of events, as bits, one of which means that they had the item.
        listable: which items may be in any of the lists, shape (items,).
        photos: one each, or none at all; likewise what they say in the profile space, `tastes`.
        allowed: the filter of a request for these lists.
        similar_to: what a request's lists are to be like.
    """
    items, count = users.items, len(slots)
    user_slots, now_s = np.array(slots, np.int32), np.array(times_ms, np.int64) / 1000.0
    past = History.empty(users.entries_of(user_slots), count * RECENT_SIZE)
    usable = np.empty((count, len(listable)), np.bool_)
    near, far = (
        (np.empty(room, np.int32), np.empty(room, np.float32), np.empty(room, np.float32),
         np.empty(count + 1, np.int64))
        for room in (count * (CONTEXT_SIZE + len(similar_to)),
                     count * (RECENT_SIZE + len(similar_to)))
    )  # fmt: skip
    starts, recent_starts = np.empty(count + 1, np.int64), np.empty(count + 1, np.int64)
    tokens = np.empty(count, np.uint32)
    _gather(
        user_slots, now_s, users.heads.rows, users.pages.rows, np.array(had, np.int64), listable,
        similar_to, powers_of(position_decay, max(CONTEXT_SIZE, len(similar_to))),
        past.items, past.first_s, past.last_s, past.counts, past.weights, past.types, past.recent,
        starts, recent_starts, usable, *near, *far, tokens,
    )  # fmt: skip
    clocks, limits = np.full(count, items.clock.now), np.full(count, limit, np.int64)
    nobody = [None] * count
    queries, longer = (
        Queries(
            spoken[: bounds[-1]], weights[: bounds[-1]], ages_s[: bounds[-1]], bounds, clocks,
            usable, limits, tastes or nobody,
        )
        for spoken, weights, ages_s, bounds in (near, far)
    )  # fmt: skip
    return Contexts(
        items, catalogue, past.between(slice(starts[-1]), slice(recent_starts[-1])), starts,
        recent_starts, usable, queries, longer, now_s, tokens, photos or nobody,
        [allowed] * count, [similar_to] * count,
    )  # fmt: skip


@lru_cache
def powers_of(decay: float, count: int) -> NDArray[np.float32]:
    """1, decay, decay^2 and so on, for reading only.

    >>> powers_of(0.5, 3).tolist()
    [1.0, 0.5, 0.25]
    """
    powers = decay ** np.arange(count, dtype=np.float32)
    powers.flags.writeable = False
    return powers


@kernel
def _gather(
    slots: Any, now_s: Any, heads: Any, pages: Any, had: Any, listable: Any, first: Any,
    powers: Any, items: Any, first_s: Any, last_s: Any, counts: Any, weights: Any, types: Any,
    recent: Any, starts: Any, recent_starts: Any, usable: Any,
    near: Any, near_weights: Any, near_ages_s: Any, near_starts: Any,
    far: Any, far_weights: Any, far_ages_s: Any, far_starts: Any, tokens: Any,
) -> None:  # fmt: skip
    starts[0], recent_starts[0], near_starts[0], far_starts[0] = 0, 0, 0, 0
    for n in range(len(slots)):
        start, newest_at, tokens[n] = starts[n], recent_starts[n], 0
        filled, newest = 0, 0
        if slots[n] != NONE:
            filled, newest = read_history(
                slots[n], heads, pages, items[start:], first_s[start:], last_s[start:],
                counts[start:], weights[start:], types[start:], recent[newest_at:],
            )  # fmt: skip
            tokens[n] = heads[slots[n]].token
        stop = start + filled
        starts[n + 1], recent_starts[n + 1] = stop, newest_at + newest
        usable[n] = listable
        for at in range(start, stop):
            if not weights[at] > 0 or types[at] & had[n]:
                usable[n, items[at]] = False
        at = far_starts[n]
        said = newest_liked(
            items[start:stop], last_s[start:stop], weights[start:stop],
            recent[newest_at : newest_at + newest], first, now_s[n], 1.0, RECENT_SIZE, far[at:],
            far_weights[at:], far_ages_s[at:],
        )  # fmt: skip
        far_starts[n + 1] = at + said
        to = near_starts[n]
        heard = min(said, max(CONTEXT_SIZE, len(first)))
        for m in range(heard):
            near[to + m], near_ages_s[to + m] = far[at + m], far_ages_s[at + m]
            near_weights[to + m] = far_weights[at + m] * powers[m]
        near_starts[n + 1] = to + heard
