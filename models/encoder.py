"""Encoders: pictures in, unit vectors out, behind one small interface.

Vectors of two encoders never meet: each is told apart by `Encoder.id`, its name with its version,
which goes into every embedding. Others can add encoders by an entry point of `recsys.encoders`:
a callable that takes the cache folder and gives an `Encoder`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from PIL import Image

from models.unit_rows import Vectors, unit_rows

Factory = Callable[[Path], "Encoder"]
__all__ = ["Encoder", "Factory", "UnknownEncoderError", "Vectors", "load", "names", "unit_rows"]
GROUP = "recsys.encoders"
DEFAULT = "efficientnet-lite0"
BUILT_IN = {
    "efficientnet-lite0": "models.efficientnet:lite0",
    "efficientnet-lite2": "models.efficientnet:lite2",
    "perceptual-hash": "models.classical:perceptual_hash",
    "hog": "models.classical:hog",
    "colour-histogram": "models.classical:colour_histogram",
}


class UnknownEncoderError(LookupError):
    """There is no encoder of that name; the message tells which there are."""


class Encoder(ABC):
    """One way to make vectors of pictures. `dim` is their length."""

    name: str
    version: str
    dim: int

    @property
    def id(self) -> str:
        """Name and version: what must be equal for two vectors to be compared."""
        return f"{self.name}@{self.version}"

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """float32 (n, dim), every row of length 1; (0, dim) for no pictures.

        Pictures are RGB of any size. A picture without any feature (say, one colour without an
        edge) gives the first unit vector, so that no row is zero or NaN.
        """
        if not images:
            return np.empty((0, self.dim), np.float32)
        return unit_rows(self.features([image.convert("RGB") for image in images]))

    def encode_both(self, images: Sequence[Image.Image]) -> tuple[Vectors, Vectors]:
        """What `encode` gives, and the unit vectors of the trunk below, for classifiers.

        An encoder without a trunk is its own.
        """
        vectors = self.encode(images)
        return vectors, vectors

    @property
    def trunk_id(self) -> str:
        """The id of the encoder that the second of `encode_both` comes from."""
        return self.id

    @abstractmethod
    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """float32 (n, dim) of RGB pictures, of any length; n is at least 1."""


def names() -> list[str]:
    """Every encoder that can be asked for here, built in or by entry point."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def load(name: str, cache_folder: Path) -> Encoder:
    """The encoder of that name; what it has to build once goes into the cache folder.

    Names with `+` between are joined (`models.joined`). Raises `UnknownEncoderError` for another
    name and `ImportError` where its extra is not installed.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            factory: Factory = point.load()
            return factory(cache_folder)
    if "+" in name:
        from models.joined import JoinedEncoder  # which builds on this module

        return JoinedEncoder([load(part, cache_folder) for part in name.split("+")])
    if name not in BUILT_IN:
        raise UnknownEncoderError(f"no encoder {name!r}; there are {', '.join(names())}")
    module, attribute = BUILT_IN[name].split(":")
    factory = getattr(import_module(module), attribute)
    return factory(cache_folder)
