"""Made-up features in several views: labels are directions, and noise is larger in some."""

import numpy as np

from models.encoder import unit_rows


def feature_set(labels, per_label, views=2, dim=24, noise=0.6, seed=0, first=0):
    """features (photos, views, dim) float16 and labels (photos,)."""
    generator = np.random.default_rng(seed)
    centres = np.stack(
        [np.random.default_rng([9, first + n]).normal(size=dim) for n in range(labels)]
    )
    loud = np.where(np.arange(dim) < dim // 2, 3.0, 0.3)  # half of the directions say nothing
    numbers = np.repeat(np.arange(labels), per_label)
    rows = centres[numbers] + noise * loud * generator.normal(size=(len(numbers), dim))
    shaken = rows[:, None] + 0.1 * generator.normal(size=(len(numbers), views, dim))
    flat = unit_rows(shaken.reshape(-1, dim)).reshape(shaken.shape)
    return flat.astype(np.float16), numbers
