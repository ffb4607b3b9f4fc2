"""From products' vectors in a file to the map from pictures into the profile space."""

import hashlib
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


@dataclass(frozen=True)
class MappingJob:
    """Products' image vectors and factors in one file, and the encoder of the former."""

    vectors: Path
    name: str
    bundles: Path
    encoder_id: str
    seed: int = 0
    licence: str = ""
    origin: str = ""


def train_mapping(job: MappingJob) -> Bundle:
    """The ridge map from images to factors, measured on a fifth of the products."""
    images, factors, weights = _read_vectors(job.vectors)
    test = np.random.default_rng(job.seed).permutation(len(images)) % 5 == 0
    mapping = fit_mapping(images[~test], factors[~test], weights[~test], seed=job.seed)
    mapped, mean = mapping(images[test]), factors[~test].mean(axis=0)
    error = float(((mapped - factors[test]) ** 2).sum())
    cosines = (unit_rows(mapped) * unit_rows(factors[test])).sum(axis=1)
    metrics = {
        "explained": round(1 - error / float(((mean - factors[test]) ** 2).sum()), 4),
        "cosine": round(float(cosines.mean()), 4),
        "products": int(test.sum()),
    }
    data = {
        "digest": hashlib.sha256(job.vectors.read_bytes()).hexdigest(),
        "products": len(images),
        "licence": job.licence,
        "origin": job.origin,
    }
    whole = fit_mapping(images, factors, weights, seed=job.seed)
    settings = {"penalty": whole.penalty, "seed": job.seed}
    about = About("mapping", "", job.encoder_id, settings, metrics, data)
    return bundle.write(job.bundles, job.name, about, whole.arrays())


def _read_vectors(path: Path) -> tuple[Array, Array, Array]:
    """Images, factors and weights of a file. Raises `TrainingError` where they do not fit."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            arrays = dict(load_file(path))
        images, factors = arrays["images"], arrays["factors"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise TrainingError(f"{path}: no arrays `images` and `factors` ({error})") from error
    weights = arrays.get("weights", np.ones(len(images)))
    if images.ndim != 2 or factors.ndim != 2 or not len(images) == len(factors) == len(weights):
        raise TrainingError(f"{path}: `images` and `factors` need a row for each product")
    if len(images) < 10:
        raise TrainingError(f"{path}: ten products are needed, these are {len(images)}")
    return images, factors, weights
