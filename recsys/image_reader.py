"""What the image role reads in pictures: decoded safely, encoded in batches, classified."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from models.classifier import Classifier
from models.encoder import Encoder
from models.image import BadImage, ImageLimits, decode
from models.trained import WatchedClassifier
from streams.events import ClassProbability

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a unit vector (dim,), and its likeliest categories."""

    vector: NDArray[np.float32]
    classes: list[ClassProbability]


class ImageReader:
    """Pictures in, vectors out. Runs in a thread of its own: it may take tens of milliseconds."""

    def __init__(
        self,
        encoder: Encoder,
        classifier: Classifier | WatchedClassifier | None = None,
        limits: ImageLimits | None = None,
        batch_size: int = 16,
    ) -> None:
        self.encoder = encoder
        self.classifier = classifier
        self._refused: str | None = None  # the classifier's version that was told of
        self._limits = limits or ImageLimits()
        self.batch_size = batch_size

    def read(self, files: Sequence[tuple[bytes, str | None]]) -> list[Picture | BadImage]:
        """Read files (bytes, content type), in their order; a bad one spoils no other."""
        results: list[Picture | BadImage | None] = [None] * len(files)
        for start in range(0, len(files), self.batch_size):
            decoded = []
            for at in range(start, min(start + self.batch_size, len(files))):
                data, content_type = files[at]
                try:
                    decoded.append((at, decode(data, content_type, self._limits)))
                except BadImage as error:
                    results[at] = error
            # the classifier reads what the trunk below the encoder sees: one look gives both
            vectors, below = self.encoder.encode_both([image for _, image in decoded])
            for (at, _), vector, classes in zip(
                decoded, vectors, self._classes(below), strict=True
            ):
                results[at] = Picture(vector, classes)
        return [result for result in results if result is not None]

    @property
    def refused(self) -> str:
        """Why the classifier's current version is not the one in use; empty where it is."""
        watched = self.classifier if isinstance(self.classifier, WatchedClassifier) else None
        return watched.problem if watched else ""

    def _classes(self, vectors: NDArray[np.float32]) -> list[list[ClassProbability]]:
        if self.classifier is None:
            return [[] for _ in vectors]
        answers = self.classifier.top(vectors)
        if isinstance(self.classifier, WatchedClassifier):
            self._tell(self.classifier)
        return [
            [ClassProbability(category=name, probability=round(p, 4)) for name, p in row]
            for row in answers
        ]

    def _tell(self, watched: WatchedClassifier) -> None:
        """Says once of each version that it cannot be used."""
        refused = (watched.version or "unreadable") if watched.problem else None
        if refused is not None and refused != self._refused:
            log.warning("classifier.refused", version=refused, error=watched.problem)
        self._refused = refused
