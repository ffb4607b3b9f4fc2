"""Encoders without a network: perceptual hash, histogram of oriented gradients, colours."""

from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from skimage.feature import hog as skimage_hog

from models.encoder import Encoder, Vectors


class PerceptualHash(Encoder):
    """The 256 bits of a DCT hash as -1 and 1: the cosine is 1 - 2 * Hamming distance / 256.

    Source: `imagehash.phash`, after Zauner (2010), "Implementation and Benchmarking of Perceptual
    Image Hash Functions".
    """

    name = "perceptual-hash"
    version = "1"
    dim = 256

    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """-1 and 1."""
        bits = np.stack([imagehash.phash(image, hash_size=16).hash.ravel() for image in images])
        return np.where(bits, 1, -1).astype(np.float32)


class Hog(Encoder):
    """Histogram of oriented gradients: 9 directions in 8 x 8 cells, blocks of 2 x 2.

    Source: Dalal & Triggs (2005), by scikit-image.
    """

    name = "hog"
    version = "1"
    dim = 7 * 7 * 2 * 2 * 9

    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """Not negative; block-normalised by L2-Hys."""
        return np.stack([self._one(image) for image in images]).astype(np.float32)

    def _one(self, image: Image.Image) -> Vectors:
        pixels = np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC))
        values: Vectors = skimage_hog(
            pixels, 9, pixels_per_cell=(16, 16), cells_per_block=(2, 2), channel_axis=-1
        )
        return values


class ColourHistogram(Encoder):
    """Joint histogram of hue, saturation and value (12 x 4 x 4), square-rooted.

    The cosine of square-rooted histograms is the Bhattacharyya coefficient. Source: Swain &
    Ballard (1991), "Color Indexing".
    """

    name = "colour-histogram"
    version = "1"
    dim = 12 * 4 * 4

    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """Not negative; the squares of a row sum to 1."""
        return np.stack([self._one(image) for image in images]).astype(np.float32)

    def _one(self, image: Image.Image) -> Vectors:
        hsv = np.asarray(image.resize((64, 64)).convert("HSV"), np.int64).reshape(-1, 3)
        hue, saturation, value = hsv[:, 0] * 12 // 256, hsv[:, 1] // 64, hsv[:, 2] // 64
        counts = np.bincount(hue * 16 + saturation * 4 + value, minlength=self.dim)
        return np.sqrt(counts / len(hsv)).astype(np.float32)


def perceptual_hash(_cache_folder: Path) -> PerceptualHash:
    """Near-duplicates: the same picture at another size or quality."""
    return PerceptualHash()


def hog(_cache_folder: Path) -> Hog:
    """Outlines."""
    return Hog()


def colour_histogram(_cache_folder: Path) -> ColourHistogram:
    """Colours, wherever they lie."""
    return ColourHistogram()
