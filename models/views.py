"""What the frozen trunk makes of each photo in several views, computed once and kept.

Training a head reads these arrays again and again and never the photos. Views: 0 is the photo as
it is, 1 its mirror image, the others random (`models.augment`), each decided by seed, photo and
view, so that a view does not depend on what else is computed.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.augment import augment
from models.photos import Photo, digest

Compute = Callable[[Sequence[Image.Image]], npt.NDArray[np.float32]]
BATCH = 16


def compute_views(
    compute: Compute,
    photos: Sequence[Photo],
    count: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float16]:
    """float16 (photos, count, ...): `compute` of each photo in that many views."""
    result: npt.NDArray[np.float16] | None = None
    todo = [(row, view) for row in range(len(photos)) for view in range(count)]
    for start in range(0, len(todo), BATCH):
        places = todo[start : start + BATCH]
        rows = compute([_view(photos[row], view, seed) for row, view in places])
        if result is None:
            result = np.empty((len(photos), count, *rows.shape[1:]), np.float16)
        for (row, view), values in zip(places, rows, strict=True):
            result[row, view] = values
        progress(len(places))
    if result is None:
        raise ValueError("no photos")
    return result


def _view(photo: Photo, view: int, seed: int) -> Image.Image:
    image = photo.open()
    if view == 0:
        return image
    if view == 1:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    words = hashlib.blake2b(f"{photo.product} {photo.path.name}".encode(), digest_size=8).digest()
    return augment(image, np.random.default_rng([seed, view, *words]))


def cached_views(
    folder: Path,
    name: str,
    compute: Compute,
    photos: Sequence[Photo],
    count: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float16]:
    """As `compute_views`, kept in the folder under the name, the photos' digest and the seed.

    `name` must tell encoders and their versions apart.
    """
    order = hashlib.sha256("".join(f"{p.path.name} {p.product}\n" for p in photos).encode())
    key = hashlib.sha256(f"{digest(photos)} {order.hexdigest()}".encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}-{count}-{seed}.npy"
    if path.exists():
        kept: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
        progress(len(photos) * count)
        return kept
    views = compute_views(compute, photos, count, seed, progress)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")  # another run may compute the same
    np.save(part, views)
    part.replace(path)
    return views
