"""Several encoders as one: what one cannot see, another can (a network's shapes, plain colours)."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from models.encoder import Encoder, Vectors
from models.unit_rows import unit_rows


class JoinedEncoder(Encoder):
    """The unit vectors of each part side by side, so that all weigh the same.

    Its name and version are those of its parts with `+` between. Raises `ValueError` for fewer
    than two parts.
    """

    def __init__(self, parts: Sequence[Encoder]) -> None:
        if len(parts) < 2:
            raise ValueError("one encoder alone is not joined")
        self.parts = tuple(parts)
        self.name = "+".join(part.name for part in parts)
        self.version = "+".join(part.version for part in parts)
        self.dim = sum(part.dim for part in parts)

    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """The parts' unit vectors."""
        rows = [unit_rows(part.features(images)) for part in self.parts]
        return np.concatenate(rows, axis=1, dtype=np.float32)
