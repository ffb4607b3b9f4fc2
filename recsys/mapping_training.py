"""From products' vectors to the map from pictures into the profile space, measured on a part.

What serves is fitted by each refit anew, since each refit's factors are a space of their own; this
tells how well a shop's pictures foretell its factors, and leaves a map for others to use.
"""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models import bundle
from models.bundle import About, Bundle
from models.mapping import fit_mapping
from models.unit_rows import unit_rows
from recsys.training_data import Array, TrainingError

PRODUCTS_MIN = 10
UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class ProductVectors:
    """A row a product: of its picture (n, dim), its factors (n, f), and its weight (n,), or 1."""

    images: Array
    factors: Array
    weights: Array | None = None

    def digest(self) -> str:
        """SHA-256 over the arrays."""
        arrays = (self.images, self.factors, self.all_weights())
        whole = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays)
        return hashlib.sha256(whole).hexdigest()

    def all_weights(self) -> Array:
        """The weights, (n,)."""
        return np.ones(len(self.images)) if self.weights is None else self.weights


@dataclass(frozen=True)
class MappingJob:
    """Which vectors to fit, the encoder of the pictures', and where the bundle goes.

    Raises `BundleError` for a name that no bundle can have.
    """

    vectors: ProductVectors
    name: str
    bundles: Path
    encoder_id: str
    seed: int = 0
    licence: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        bundle.check_name(self.name)


def train_mapping(job: MappingJob) -> Bundle:
    """The ridge map from images to factors, measured on a fifth of the products.

    Raises `TrainingError` where there are too few products, or rows that do not fit or tell
    nothing.
    """
    _check(job.vectors)
    images, factors, weights = job.vectors.images, job.vectors.factors, job.vectors.all_weights()
    test = np.random.default_rng(job.seed).permutation(len(images)) % 5 == 0
    if not weights[~test].sum() > 0:
        raise TrainingError("too many `weights` are 0: nothing is left to fit")
    mapping = fit_mapping(images[~test], factors[~test], weights[~test], seed=job.seed)
    mapped, mean = mapping(images[test]), factors[~test].mean(axis=0)
    spread = float(((mean - factors[test]) ** 2).sum())
    if not spread > 0:
        raise TrainingError("`factors` are the same of all products: there is nothing to foretell")
    error = float(((mapped - factors[test]) ** 2).sum())
    cosines = (unit_rows(mapped) * unit_rows(factors[test])).sum(axis=1)
    metrics = {
        "explained": round(1 - error / spread, 4),
        "cosine": round(float(cosines.mean()), 4),
        "products": int(test.sum()),
    }
    data = {
        "digest": job.vectors.digest(),
        "products": len(images),
        "licence": job.licence,
        "origin": job.origin,
    }
    whole = fit_mapping(images, factors, weights, seed=job.seed)
    settings = {"penalty": whole.penalty, "seed": job.seed}
    about = About("mapping", "", job.encoder_id, settings, metrics, data)
    return bundle.write(job.bundles, job.name, about, whole.arrays())


def _check(vectors: ProductVectors) -> None:
    """Raises `TrainingError` for arrays that no map can be fitted to."""
    images, factors, weights = vectors.images, vectors.factors, vectors.all_weights()
    if images.ndim != 2 or factors.ndim != 2 or not len(images) == len(factors) == len(weights):
        raise TrainingError("`images` and `factors` need a row for each product")
    if weights.ndim != 1:
        raise TrainingError("`weights` need one number for each product")
    if len(images) < PRODUCTS_MIN:
        raise TrainingError(f"{PRODUCTS_MIN} products are needed, these are {len(images)}")
    for name, array in (("images", images), ("factors", factors), ("weights", weights)):
        if array.dtype.kind not in "fiu" or not array.size:
            raise TrainingError(f"`{name}` hold no numbers")
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise TrainingError(f"`{name}` are not finite in row {bad[0]} (counted from 0)")
    if weights.min() < 0:
        raise TrainingError("`weights` may not be below 0")


def read_file(path: Path) -> ProductVectors:
    """The vectors of a .npz or .safetensors. Raises `TrainingError` where they are not there."""
    try:
        if path.suffix == ".npz":
            # opened here: numpy leaves a damaged one open
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            arrays = dict(load_file(path))
        return ProductVectors(arrays["images"], arrays["factors"], arrays.get("weights"))
    except UNREADABLE as error:
        raise TrainingError(f"{path}: no arrays `images` and `factors` ({error})") from error
