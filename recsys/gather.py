"""Gathering: what the lists of some users are to be made of, read off their state in one pass."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import NO_SLOTS, Queries
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, RECENT_SIZE, entries_of, newest_liked, read_history
from models.kernels import kernel
from recsys.catalogue import Catalogue
from recsys.contexts import Contexts
from recsys.photos import Photo
from recsys.user_history import UserHistory
from recsys.user_state import UserState

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
    (its weight is not positive), and what they had.

    Args:
        slots: users, -1: a stranger.
        times_ms: as of when, one each.
        had: for each, the types of events, as bits, one of which means that they had the item.
        listable: which items may be in any of the lists, shape (items,).
        photos: one each, or none at all; likewise what they say in the profile space, `tastes`.
        allowed: the filter of a request for these lists.
        similar_to: what a request's lists are to be like.
    """
    items, heads, count = users.items, users.heads.rows, len(slots)
    user_slots, now_s = np.array(slots, np.int32), np.array(times_ms, np.int64) / 1000.0
    past = UserHistory.empty(entries_of(user_slots, heads), count * RECENT_SIZE)
    usable = np.repeat(listable[None], count, 0)  # numba copies byte by byte, numpy at once
    tokens, bounds = np.empty(count, np.uint32), np.empty((4, count + 1), np.int64)
    near, far = (
        (np.empty(count * most, np.int32), np.empty((2, count * most), np.float32))
        for most in (CONTEXT_SIZE + len(similar_to), RECENT_SIZE + len(similar_to))
    )
    _gather(
        user_slots, now_s, heads, users.pages.rows, np.array(had, np.int64), similar_to,
        powers_of(position_decay, max(CONTEXT_SIZE, len(similar_to))),
        past.items, past.first_s, past.last_s, past.counts, past.weights, past.types, past.recent,
        *near, *far, bounds, usable, tokens,
    )  # fmt: skip
    starts, recent_starts, near_starts, far_starts = bounds
    clocks, limits = np.full(count, items.clock.now), np.full(count, limit, np.int64)
    nobody = [None] * count
    queries, longer = (
        Queries(
            spoken[: ends[-1]], said[0, : ends[-1]], said[1, : ends[-1]], ends, clocks, usable,
            limits, tastes or nobody,
        )
        for (spoken, said), ends in ((near, near_starts), (far, far_starts))
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
    slots: Any, now_s: Any, heads: Any, pages: Any, had: Any, first: Any, powers: Any, items: Any,
    first_s: Any, last_s: Any, counts: Any, weights: Any, types: Any, recent: Any, near: Any,
    near_said: Any, far: Any, far_said: Any, bounds: Any, usable: Any, tokens: Any,
) -> None:  # fmt: skip
    """Of `near_said` and `far_said` the rows are weights and ages in seconds.

    The rows of `bounds` are where each list's entries start, its newest, its near, its far items.
    """
    bounds[:, 0] = 0
    for n in range(len(slots)):
        start, newest_at, to, at = bounds[0, n], bounds[1, n], bounds[2, n], bounds[3, n]
        filled, newest, tokens[n] = 0, 0, 0
        if slots[n] != NONE:
            filled, newest = read_history(
                slots[n], heads, pages, items[start:], first_s[start:], last_s[start:],
                counts[start:], weights[start:], types[start:], recent[newest_at:],
            )  # fmt: skip
            tokens[n] = heads[slots[n]].token
        stop = start + filled
        for m in range(start, stop):
            if not weights[m] > 0 or types[m] & had[n]:
                usable[n, items[m]] = False
        said = newest_liked(
            items[start:stop], last_s[start:stop], weights[start:stop],
            recent[newest_at : newest_at + newest], first, now_s[n], 1.0, RECENT_SIZE, far[at:],
            far_said[0, at:], far_said[1, at:],
        )  # fmt: skip
        heard = min(said, max(CONTEXT_SIZE, len(first)))
        for m in range(heard):
            near[to + m] = far[at + m]
            near_said[0, to + m] = far_said[0, at + m] * powers[m]
            near_said[1, to + m] = far_said[1, at + m]
        bounds[0, n + 1], bounds[1, n + 1] = stop, newest_at + newest
        bounds[2, n + 1], bounds[3, n + 1] = to + heard, at + said
