"""How well nearest neighbours show the right thing: Recall@k and mean average precision."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Retrieval(NamedTuple):
    """Means over the queries that have anything to find."""

    recall_at_1: float
    recall_at_10: float
    mean_average_precision: float
    queries: int


def retrieval(
    queries: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    gallery: npt.NDArray[np.floating] | None = None,
    gallery_labels: npt.NDArray[np.int64] | None = None,
    itself: npt.NDArray[np.int64] | None = None,
    k: int = 10,
) -> Retrieval:
    """Ranks the gallery by cosine for each query; both hold unit rows.

    Without a gallery the queries are each other's, less the query itself. `itself[i]` is where in
    the gallery the query i lies (-1: nowhere); it is not found. Recall@k is the share of queries
    with a right one among the first k; AP@k is the sum of precision@i over the right ranks i <= k,
    over min(k, number of right ones).
    """
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, itself = queries, labels, np.arange(len(queries))
    cosines = queries @ gallery.T
    right = labels[:, None] == gallery_labels[None, :]
    if itself is not None:
        rows = np.flatnonzero(itself >= 0)
        cosines[rows, itself[rows]] = -np.inf
        right[rows, itself[rows]] = False
    there = right.sum(axis=1)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(right, order, axis=1)[there > 0]
    if not len(hits):
        raise ValueError("no query has anything to find")
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(axis=1) / np.minimum(k, there[there > 0])
    return Retrieval(
        float(hits[:, 0].mean()), float(hits.any(axis=1).mean()), float(average.mean()), len(hits)
    )
