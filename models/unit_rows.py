"""Vectors of length 1: what encoders give, and what is compared."""

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def unit_rows(vectors: npt.ArrayLike) -> Vectors:
    """Each row over its Euclidean length; a row of zeros becomes the first unit vector.

    >>> unit_rows([[3, 4], [0, 0]]).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [1.0, 0.0]]
    """
    rows = np.array(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    empty = ~(lengths[:, 0] > 1e-12)
    rows[empty] = 0
    rows[empty, 0] = lengths[empty] = 1
    rows /= lengths
    return rows
