"""The Siamese head as it serves: a projection of the trunk's features, and what a pair is worth.

Two photos go through the same trunk and the same projection; the cosine of what comes out is
small for two products and large for two views of one. Training is in `models.siamese_training`.
Source: Bromley et al. (1993); Chopra, Hadsell & LeCun (2005).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.calibration import Isotonic
from models.encoder import Encoder, Vectors, unit_rows
from models.index import Index

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class SiameseHead:
    """Unit features of the trunk, less their mean, times a matrix; and the pair probability.

    `mean` is (features,), `projection` (features, dim).
    """

    mean: Vectors
    projection: Vectors
    pair_curve: Isotonic

    def embed(self, features: Vectors) -> Vectors:
        """Unit vectors (n, dim) of the trunk's features (n, features), of any length."""
        if not len(features):
            return np.empty((0, self.projection.shape[1]), np.float32)
        return unit_rows((unit_rows(features) - self.mean) @ self.projection)

    def same_product(self, cosines: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probability that two photos show one product, by the cosine of their embeddings.

        Calibrated for pairs of which half are of one product, as they were in validation.
        """
        return self.pair_curve(cosines)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What `from_arrays` takes."""
        return {
            "mean": self.mean,
            "projection": self.projection,
            "pair_scores": self.pair_curve.scores,
            "pair_probabilities": self.pair_curve.probabilities,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "SiameseHead":
        """The head whose `arrays` these are."""
        curve = Isotonic(
            arrays["pair_scores"].astype(np.float64),
            arrays["pair_probabilities"].astype(np.float64),
        )
        mean, projection = arrays["mean"], arrays["projection"]
        return cls(mean.astype(np.float32), projection.astype(np.float32), curve)


class SiameseEncoder(Encoder):
    """A trunk with a Siamese head behind it."""

    def __init__(self, name: str, version: str, trunk: Encoder, head: SiameseHead) -> None:
        self.name = name
        self.version = version
        self.trunk = trunk
        self.head = head
        self.dim = head.projection.shape[1]

    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """The head's unit vectors."""
        return self.head.embed(self.trunk.features(images))

    def encode_both(self, images: Sequence[Image.Image]) -> tuple[Vectors, Vectors]:
        """The head's vectors and the trunk's, of one look at the pictures."""
        trunk_vectors = self.trunk.encode(images)
        return self.head.embed(trunk_vectors), trunk_vectors

    @property
    def trunk_id(self) -> str:
        """The trunk's id."""
        return self.trunk.id


def near_duplicates(
    index: Index, head: SiameseHead, threshold: float = 0.95, neighbours: int = 10
) -> dict[int, int]:
    """Groups the index's pictures that show one product: id -> smallest id of its group.

    Pairs of neighbours at or over the threshold of probability are united (union-find); an id
    alone is its own group. The index must be by cosine and hold the head's embeddings.
    """
    ids, rows = index.items()
    pairs = []
    for key, row in zip(ids.tolist(), rows, strict=True):
        found, distances = index.search(row, neighbours + 1)
        same = head.same_product(1 - distances) >= threshold
        pairs += [(key, other) for other in found[same].tolist()]
    return unite(ids.tolist(), pairs)


def unite(ids: Iterable[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Groups by union of pairs: each id with the smallest of its group.

    >>> unite([1, 2, 3, 4, 5], [(4, 2), (5, 4)])
    {1: 1, 2: 2, 3: 3, 4: 2, 5: 2}
    """
    parent = {key: key for key in ids}

    def root(key: int) -> int:
        while parent[key] != key:
            parent[key] = parent[parent[key]]  # halves the way for who comes next
            key = parent[key]
        return key

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {key: root(key) for key in parent}
