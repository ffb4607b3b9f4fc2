"""From image space into the profile space: what a photo says of taste, and of a new product.

Fitted in closed form (ridge regression) so that the mapped picture of a product lands near the
factors that behaviour has given it. A product that nobody has touched then has a cold-start
vector, and an uploaded photo can move a user's profile or be associated with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.unit_rows import Vectors

Arrays = Mapping[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ImageMapping:
    """y = (x - image_mean) W + factor_mean, with x an image vector (dim,), y one of factors (f,).

    `matrix` is (dim, f); `penalty` is what validation chose.
    """

    image_mean: Vectors
    matrix: Vectors
    factor_mean: Vectors
    penalty: float

    def __call__(self, vectors: Vectors) -> Vectors:
        """Image vectors (n, dim) in the profile space (n, f): also a new product's factors."""
        mapped = (vectors - self.image_mean) @ self.matrix + self.factor_mean
        return np.asarray(mapped, np.float32)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What `from_arrays` takes."""
        return {
            "image_mean": self.image_mean,
            "matrix": self.matrix,
            "factor_mean": self.factor_mean,
            "penalty": np.array([self.penalty]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "ImageMapping":
        """The mapping whose `arrays` these are."""
        return cls(
            arrays["image_mean"].astype(np.float32),
            arrays["matrix"].astype(np.float32),
            arrays["factor_mean"].astype(np.float32),
            float(arrays["penalty"][0]),
        )


def fit_mapping(
    images: Floats,
    factors: Floats,
    weights: Floats | None = None,
    penalties: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0),
    folds: int = 5,
    seed: int = 0,
) -> ImageMapping:
    """Ridge regression of products' factors (n, f) on their image vectors (n, dim).

    `weights` (n,) say how much each product's factors are to be believed, such as its number of
    events. The penalty, a share of the images' mean variance times n, is the one of least squared
    error over `folds` parts of the products. Raises `ValueError` for fewer than two products.
    """
    x, y = np.asarray(images, np.float64), np.asarray(factors, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if len(x) < 2 or len(x) != len(y) or len(x) != len(w) or not w.sum() > 0:
        raise ValueError("needs two products or more, each with a vector, factors and a weight")
    part = np.random.default_rng(seed).permutation(len(x)) % min(folds, len(x))
    errors = np.zeros(len(penalties))
    for fold in range(part.max() + 1):
        train, test = part != fold, part == fold
        for number, mapping in enumerate(_ridge(x[train], y[train], w[train], penalties)):
            squares = ((mapping(x[test].astype(np.float32)) - y[test]) ** 2).sum(axis=1)
            errors[number] += (w[test] * squares).sum()
    best = penalties[int(np.argmin(errors))]
    return _ridge(x, y, w, (best,))[0]


def _ridge(x: Floats, y: Floats, w: Floats, penalties: tuple[float, ...]) -> list[ImageMapping]:
    """W = (X'X + a I)^-1 X'Y by one eigendecomposition for all penalties a."""
    share = w / max(w.sum(), 1e-12)
    image_mean, factor_mean = share @ x, share @ y
    centred = (x - image_mean) * np.sqrt(share)[:, None]
    target = (y - factor_mean) * np.sqrt(share)[:, None]
    spread, axes = np.linalg.eigh(centred.T @ centred)
    moment = axes.T @ (centred.T @ target)
    scale = max(float(spread.mean()), 1e-12)
    return [
        ImageMapping(
            image_mean.astype(np.float32),
            (axes @ (moment / (np.maximum(spread, 0) + a * scale)[:, None])).astype(np.float32),
            factor_mean.astype(np.float32),
            a,
        )
        for a in penalties
    ]


def association(mapped: Vectors, profile: Vectors, threshold: float = 0.3) -> float | None:
    """Cosine of a mapped photo (f,) and a user's profile vector (f,), where it passes.

    None below the threshold, and where either is zero: someone of whom nothing is known is
    associated with nothing.

    >>> association(np.array([1, 0], np.float32), np.array([2, 0], np.float32))
    1.0
    >>> association(np.array([1, 0], np.float32), np.zeros(2, np.float32)) is None
    True
    """
    lengths = float(np.linalg.norm(mapped) * np.linalg.norm(profile))
    if not lengths > 1e-12:
        return None
    cosine = float(mapped @ profile) / lengths
    return cosine if cosine >= threshold else None
