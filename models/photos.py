"""Labelled photos, of a folder or from elsewhere, split so that no product lies in two parts.

    folder/[split/].../<label>/<photo>.jpg      the label is the folder's name
    folder/photos.csv                           or one line a photo: path, label, product[, split]

A split is one of `train`, `validation` (or `val`) and `test`, in small letters or large.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from models.image import BadImage, ImageLimits, decode

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


class PhotosError(ValueError):
    """These photos are no set to train on; the message says why."""


@dataclass(frozen=True)
class Photo:
    """One photo. `split` is empty where nobody says; `data` are its bytes where no file is."""

    path: Path
    label: str
    product: str
    split: str = ""
    data: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The file's bytes."""
        return self.path.read_bytes() if self.data is None else self.data

    def open(self) -> Image.Image:
        """The picture, upright, in RGB, its longer side at most 512 px.

        Raises `BadImage`, which names the photo.
        """
        try:
            return decode(self.read(), limits=ImageLimits(side_px_min=1))
        except BadImage as bad:
            raise BadImage(bad.reason, bad.field, f"{self.path}: {bad.message}") from bad


def read_folder(folder: Path, label_is_product: bool = False) -> list[Photo]:
    """The photos of a folder, ordered by path.

    Without a `photos.csv` every photo is a product of its own, or (`label_is_product`) every
    label is one. Raises `PhotosError` where there is no photo, or the list names one that is not
    in the folder or a split that there is not.
    """
    folder = folder.resolve()
    listed = folder / "photos.csv"
    photos = _listed(listed) if listed.exists() else _found(folder, label_is_product)
    if not photos:
        raise PhotosError(f"no photos below {folder}")
    return sorted(photos, key=lambda photo: photo.path)


def _found(folder: Path, label_is_product: bool) -> list[Photo]:
    photos = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in SUFFIXES and path.parent != folder and path.is_file():
            place = path.relative_to(folder)
            label = path.parent.name
            product = label if label_is_product else place.as_posix()
            photos.append(Photo(path, label, product, _split(place.parts[0])))
    return photos


def _listed(path: Path) -> list[Photo]:
    photos = []
    for row in read_rows(path, "path", "label", "product"):
        place = (path.parent / row["path"]).resolve()
        if not place.is_relative_to(path.parent) or not place.is_file():
            raise PhotosError(f"{path.name} names {row['path']!r}, which is not in the folder")
        named = row.get("split") or ""
        split = _split(named)
        if named.strip() and not split:
            raise PhotosError(f"{path.name} names the split {named!r}: {', '.join(SPLITS)} are")
        photos.append(Photo(place, row["label"], row["product"], split))
    return photos


def _split(name: str) -> str:
    """The part of that name, however it is written; empty where it is none."""
    return SPLITS.get(name.strip().lower(), "")


def read_rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The lines of a CSV in UTF-8, each with a value in these columns.

    Raises `PhotosError` where the file is not of that kind.
    """
    # spreadsheets put a byte order mark before the first column's name
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            lacks = [name for name in columns if name not in (rows.fieldnames or ())]
            if lacks:
                raise PhotosError(f"{path} has no columns {' and '.join(lacks)}")
            for row in rows:
                if any(row[name] is None for name in columns):
                    raise PhotosError(f"{path}: line {rows.line_num} has too few values")
                yield row
        except UnicodeDecodeError as error:
            raise PhotosError(f"{path} is not in UTF-8") from error
        except csv.Error as error:
            raise PhotosError(f"{path}: line {rows.line_num} cannot be read: {error}") from error


def split_by_product(
    photos: Sequence[Photo], shares: dict[str, float], seed: int = 0
) -> dict[str, list[Photo]]:
    """Photos by part, each label's products shared out; a product lies in one part alone.

    A photo's own split is kept where it has one. `shares` are the parts' shares of the others.

    >>> from pathlib import Path
    >>> photos = [Photo(Path(f"{n}.jpg"), "shoe", f"p{n // 2}") for n in range(20)]
    >>> parts = split_by_product(photos, {"train": 0.8, "test": 0.2})
    >>> len(parts["train"]), len(parts["test"])
    (16, 4)
    """
    parts: dict[str, list[Photo]] = {name: [] for name in shares}
    by_label: dict[str, set[str]] = {}
    for photo in photos:
        if photo.split:
            parts.setdefault(photo.split, []).append(photo)
        else:
            by_label.setdefault(photo.label, set()).add(photo.product)
    place: dict[str, str] = {}
    for label in sorted(by_label):
        new = sorted(by_label[label] - place.keys(), key=lambda product: _order(seed, product))
        start = 0.0
        for name, share in shares.items():
            end = start + share * len(new) / sum(shares.values())
            place.update(dict.fromkeys(new[round(start) : round(end)], name))
            start = end
    for photo in photos:
        if not photo.split:
            parts[place[photo.product]].append(photo)
    check_products(parts)
    return parts


def check_products(parts: dict[str, list[Photo]]) -> None:
    """Raises `PhotosError` where a product lies in two parts."""
    seen: dict[str, str] = {}
    for name, photos in parts.items():
        for photo in photos:
            if seen.setdefault(photo.product, name) != name:
                raise PhotosError(
                    f"product {photo.product!r} lies in {seen[photo.product]} and {name}"
                )


def _order(seed: int, product: str) -> bytes:
    return hashlib.blake2b(f"{seed} {product}".encode(), digest_size=8).digest()


def digest(photos: Sequence[Photo], progress: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 over every photo's bytes, label and product: two equal sets have equal digests."""
    lines = []
    for photo in photos:
        content = hashlib.sha256(photo.read()).hexdigest()
        lines.append(f"{content} {photo.label} {photo.product}\n")
        progress(1)
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
