"""Measures of ranked lists, with the standard definitions, and the paired test between two of them.

Every answer is a query of its own with one relevant item, so a measure of many answers is the mean
over their ranks. Lists with several relevant items have the general forms below.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from models.offpolicy import Groups, sums_of

MISSED = -1  # rank of an answer that its list does not hold

Ranks = NDArray[np.int32]  # place of each answer in its list, 0 the first, MISSED: not in it
Lists = NDArray[np.int32]  # (n, k) item numbers, -1 where a list is shorter


def gains(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """NDCG@k of each answer: 1 / log2(rank + 2) within the first k, else 0.

    >>> gains(np.array([0, 2, 9, MISSED], np.int32), 3).tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    found = (ranks >= 0) & (ranks < k)
    return np.where(found, 1.0 / np.log2(np.maximum(ranks, 0) + 2.0), 0.0)


def hits(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """HR@k of each answer (its Recall@k): 1 within the first k, else 0."""
    return ((ranks >= 0) & (ranks < k)).astype(np.float64)


def reciprocal_ranks(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """1 / place of each answer within the first k, else 0; the mean is MRR@k."""
    return np.where(hits(ranks, k) > 0, 1.0 / (np.maximum(ranks, 0) + 1.0), 0.0)


def recall(listed: Sequence[int], relevant: set[int], k: int) -> float:
    """Share of the relevant items among the first k."""
    return len(relevant.intersection(listed[:k])) / len(relevant) if relevant else 0.0


def ndcg(listed: Sequence[int], relevant: set[int], k: int) -> float:
    """Discounted gain over that of the ideal list (Järvelin and Kekäläinen 2002), all gains 1.

    >>> ndcg([7, 8, 9], {7, 9}, 3) == (1 + 0.5) / (1 + 1 / math.log2(3))
    True
    """
    gained = sum(1.0 / math.log2(at + 2) for at, item in enumerate(listed[:k]) if item in relevant)
    ideal = sum(1.0 / math.log2(at + 2) for at in range(min(k, len(relevant))))
    return gained / ideal if ideal else 0.0


def reciprocal_rank(listed: Sequence[int], relevant: set[int], k: int) -> float:
    """1 / place of the first relevant item among the first k, 0 where there is none."""
    return next((1.0 / (at + 1) for at, item in enumerate(listed[:k]) if item in relevant), 0.0)


def exposure(lists: Lists, n_items: int) -> NDArray[np.int64]:
    """How often each item was listed, shape (n_items,)."""
    return np.bincount(lists[lists >= 0], minlength=n_items)


def coverage(shown: NDArray[np.int64]) -> float:
    """Share of the items that were listed at least once."""
    return float((shown > 0).mean()) if len(shown) else 0.0


def gini(shown: NDArray[np.int64]) -> float:
    """Inequality of exposure: 0 where all items are listed equally, towards 1 where one has all.

    >>> gini(np.array([5, 5, 5, 5]))
    0.0
    """
    ordered = np.sort(shown.astype(np.float64))
    n, total = len(ordered), ordered.sum()
    if not n or total == 0:
        return 0.0
    return float(2.0 * (np.arange(1, n + 1) * ordered).sum() / (n * total) - (n + 1.0) / n)


def novelty(lists: Lists, popularity: NDArray[np.int64]) -> float:
    """Mean self-information of what was listed, in bits: -log2 of an item's share of events."""
    listed = lists[lists >= 0]
    if not len(listed):
        return 0.0
    share = np.maximum(popularity[listed], 1) / max(int(popularity.sum()), 1)
    return float(-np.log2(share).mean())


def intra_list_diversity(lists: Lists, features: NDArray[np.float32]) -> float:
    """Mean over lists of the mean cosine distance between two of its items.

    `features` has shape (n_items, f); items without features (a zero row) are left out.
    """
    length = np.linalg.norm(features, axis=1)
    unit = features / np.maximum(length, 1e-12)[:, None]
    distances = []
    for row in lists:
        items = row[row >= 0]
        items = items[length[items] > 0]
        n = len(items)
        if n > 1:
            total = unit[items].sum(axis=0)
            distances.append(1.0 - (float(total @ total) - n) / (n * (n - 1)))
    return float(np.mean(distances)) if distances else 0.0


def interval(values: NDArray[np.float64], groups: Groups = None) -> float:
    """Half the width of the mean's 95 % interval, by the normal approximation.

    With `groups`, a number for each value, values of one group (a user's, say) may depend on each
    other (Liang and Zeger 1986). Infinite where there are fewer than two of them.
    """
    sums = sums_of(values - values.mean(), groups) if len(values) else values
    count = len(sums)
    if count < 2:
        return math.inf
    return float(1.96 * np.sqrt((sums**2).sum() * count / (count - 1)) / len(values))


def by_window(values: NDArray[np.float64], windows: int) -> NDArray[np.float64]:
    """Means over so many windows of equal size, in order; fewer where there are fewer values."""
    parts = np.array_split(values, max(1, min(windows, len(values))))
    return np.array([part.mean() if len(part) else 0.0 for part in parts])


def paired_p(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test over paired windows; 1 where they are equal."""
    difference = one - other
    if len(difference) < 2 or not np.any(difference):
        return 1.0
    return float(wilcoxon(one, other).pvalue)
