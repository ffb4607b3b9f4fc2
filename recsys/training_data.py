"""What a training reads: photos in parts, and what a trunk makes of them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import bundle, photos
from models.encoder import Encoder
from models.joined import JoinedEncoder
from models.photos import Photo
from models.unit_rows import unit_rows
from models.views import cached_views

Array = npt.NDArray[Any]
Watch = Callable[[str, int, int], None]  # what is done, how much of it, of how much
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
TWICE_MIN = 4  # products with two photos or more: two for validation, two for the test


class TrainingError(ValueError):
    """What is there cannot be trained on; the message says why."""


@dataclass(frozen=True)
class Job:
    """What to train on, and where to.

    `label_is_product`: products are the labels (and they, not photos, are then kept apart whatever
    the photos' own split). `cache` keeps the encoders' graphs; `work` what a run computes on its
    way, and where it was interrupted. `watch` hears how far it is, `say` what is left out.
    """

    photos: Sequence[Photo]
    name: str
    bundles: Path
    cache: Path
    work: Path
    encoder: str = "efficientnet-lite0"
    label_is_product: bool = False
    views: int = 8
    seed: int = 0
    epochs: int | None = None
    learning_rate: float | None = None
    licence: str = ""
    origin: str = ""
    watch: Watch = field(default=lambda _what, _done, _total: None, compare=False)
    say: Callable[[str], None] = field(default=lambda _sentence: None, compare=False)

    def __post_init__(self) -> None:
        """Raises `BundleError` for a name that no bundle can have."""
        bundle.check_name(self.name)

    @property
    def checkpoints(self) -> Path:
        """The folder of what runs of this name go on from."""
        return self.work / "checkpoints" / self.name

    def checkpoint(self, *settings: object) -> Path:
        """Where a run with these settings goes on from.

        The photos' digest, their split and the trunk's id are to be among them.
        """
        told = repr((self.views, *settings))
        return self.checkpoints / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.checkpoint"


@dataclass(frozen=True)
class Parts:
    """Photos by part, and the labels' names by number."""

    photos: Mapping[str, Sequence[Photo]]
    classes: tuple[str, ...]
    digest: str

    @property
    def split(self) -> str:
        """Digest of which product lies in which part: a product lies in one alone."""
        pairs = {(photo.product, part) for part, group in self.photos.items() for photo in group}
        return hashlib.sha256(repr(sorted(pairs)).encode()).hexdigest()

    def labels(self, part: str) -> npt.NDArray[np.int64]:
        """The label number of each photo of a part."""
        number = {name: place for place, name in enumerate(self.classes)}
        return np.array([number[photo.label] for photo in self.photos[part]], np.int64)


def read_parts(job: Job) -> Parts:
    """The job's photos in `train`, `validation` and `test`, products apart.

    Raises `TrainingError` where a part is empty, there are fewer than two labels, or labels are
    products of which too few were photographed twice.
    """
    found = job.photos
    if job.label_is_product:
        if len({photo.product for photo in found}) == len(found):
            raise TrainingError("each product has one photo: nothing shows which photos are alike")
        # labels are what is kept apart: a split of each product's photos is not for this
        found = [replace(photo, split="", label=photo.product) for photo in found]
        # a product with one photo has nothing to be found by: it can be learned from alone
        counts = Counter(photo.product for photo in found)
        twice = sorted(product for product, count in counts.items() if count > 1)
        if len(twice) < TWICE_MIN:
            raise TrainingError(
                f"{TWICE_MIN} products with two photos or more are needed, there are {len(twice)}"
            )
        order = photos.split_by_product(
            [Photo(Path(p), "", p) for p in twice], _held_out(len(twice)), job.seed
        )
        place = {photo.product: part for part, group in order.items() for photo in group}
        parts = {
            part: [p for p in found if place.get(p.product, "train") == part] for part in SHARES
        }
    else:
        parts = photos.split_by_product(found, SHARES, job.seed)
    classes = tuple(sorted({photo.label for photo in found}))
    if len(classes) < 2 or not all(parts.get(part) for part in SHARES):
        sizes = {part: len(group) for part, group in parts.items()}
        raise TrainingError(f"too little to train on: {len(classes)} labels, photos {sizes}")
    return Parts(parts, classes, photos.digest(found))


def _held_out(products: int) -> dict[str, float]:
    """A quarter of the products for the test, a tenth for validation, at least two of each."""
    test, validation = max(2, round(products / 4)), max(2, round(products / 10))
    return {"train": products - test - validation, "validation": validation, "test": test}


def features(job: Job, encoder: Encoder, parts: Parts, part: str, views: int) -> Array:
    """The encoder's features (photos, views, dim) of a part, computed once and kept.

    Of a joined encoder, each of its parts' own are kept, and so computed once for all that join.
    """
    if isinstance(encoder, JoinedEncoder):
        found = [features(job, each, parts, part, views) for each in encoder.parts]
        unit = [unit_rows(rows.reshape(-1, rows.shape[2])).reshape(rows.shape) for rows in found]
        return np.concatenate(unit, axis=2)
    group = parts.photos[part]
    return cached_views(
        job.work / "views", file_name(encoder.id), encoder.features, group, views, job.seed,
        counter(job, f"{part} photos", len(group) * views),
    )  # fmt: skip


def counter(job: Job, what: str, total: int) -> Callable[[int], None]:
    """Tells the job's watcher of each step of so many."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        job.watch(what, done, total)

    return count


def file_name(name: str) -> str:
    """An encoder's id as a file's name."""
    return name.replace("@", "-").replace("/", "-")
