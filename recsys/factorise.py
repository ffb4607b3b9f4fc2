"""Item factors and weights from all that is known of users, and when it is time for new ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models import ease
from models.columns import NONE, Slots
from models.ease import EaseConfig, Weights
from models.mf import FactorsConfig, refit
from recsys.user_state import UserState


@dataclass(frozen=True)
class RefitPlan:
    """When to factorise anew.

    Args:
        events_min: before the first time.
        growth: again when events have grown by this share.
    """

    events_min: int = 1_000
    growth: float = 0.2

    def due(self, events: int, fitted_at: int) -> bool:
        """Whether it is time, so many events after the start, the last time being after as many.

        >>> [events for events in range(900, 1500, 100) if RefitPlan().due(events, 0)]
        [1000, 1100, 1200, 1300, 1400]
        >>> RefitPlan().due(11_000, 10_000), RefitPlan().due(12_000, 10_000)
        (False, True)
        """
        return events - fitted_at >= max(self.events_min, self.growth * fitted_at)


@dataclass(frozen=True)
class Factorised:
    """Factors and weights of the n items that somebody likes."""

    slots: Slots  # (n,)
    vectors: NDArray[np.float32]  # (n, factors)
    weights: Weights
    item_users: NDArray[np.int64]  # (items,), who like each item, of all items
    users: int  # who like anything


def factorise(
    lanes: Sequence[UserState], items: int, config: FactorsConfig | None = None,
    ease_config: EaseConfig | None = None,
) -> Factorised | None:  # fmt: skip
    """Fit ALS and EASE to the users of some lanes; None where nobody likes anything.

    Users' states are the whole matrix, however long the log: every distinct item with its weight.
    """
    rows, columns, weights, users = [], [], [], 0
    for state in lanes:
        pages = state.pages
        used = np.flatnonzero(pages["user"][: pages.size] != NONE)
        owners = np.repeat(pages["user"][used], pages["item"].shape[1])
        slots, liked = pages["item"][used].ravel(), pages["weight"][used].ravel()
        kept = (slots != NONE) & (liked > 0)
        rows.append(owners[kept].astype(np.int64) + users)
        columns.append(slots[kept])
        weights.append(liked[kept].astype(np.float32))
        users += state.heads.size
    if not sum(map(len, rows)):
        return None
    matrix = csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(users, items),
    )
    matrix.data /= matrix.data.mean()
    vectors = refit(matrix, config or FactorsConfig())
    item_users = np.asarray(matrix.getnnz(axis=0), np.int64)
    known = np.flatnonzero(item_users).astype(np.int32)
    spoken = ease.fit(matrix[:, known], ease_config or EaseConfig())
    users_liking = int((matrix.getnnz(axis=1) > 0).sum())
    return Factorised(known, vectors[known], spoken, item_users, users_liking)
