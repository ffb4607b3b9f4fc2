"""The profile vector against plain numpy."""

import numpy as np

from models.mf import FactorsConfig
from models.profile import Profile, profile_vector
from tests.models.logs import query, table_of

CONFIG = FactorsConfig(factors=4)


def test_the_profile_is_the_weighted_mean_direction():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 4)).astype(np.float32)
    items, weights = np.array([3, 7, 9]), np.array([1.0, 0.5, 0.1], np.float32)
    expected = sum(
        w * vectors[i] / np.linalg.norm(vectors[i]) for i, w in zip(items, weights, strict=True)
    )
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(profile_vector(vectors, items, weights), expected, rtol=1e-5)


def test_scores_are_cosines_to_the_profile():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(20, 4)).astype(np.float32)
    model = Profile(CONFIG)
    table = table_of(model, 20)
    model.swap(table, np.arange(20, dtype=np.int32), vectors)
    asked = query([3, 7], [1.0, 0.5], n_items=20)
    slots, scores = model.recommend(table, asked)
    user = profile_vector(vectors, asked.items, asked.weights)
    cosines = vectors @ user / np.linalg.norm(vectors, axis=1)
    assert set(slots.tolist()) == set(np.flatnonzero(cosines > 0).tolist())
    np.testing.assert_allclose(scores, cosines[slots], rtol=1e-4, atol=1e-6)
    carriers = model.carriers(table, asked, slots)
    for slot, carrier in zip(slots.tolist(), carriers.tolist(), strict=True):
        shares = [
            w * vectors[i] @ vectors[slot] / np.linalg.norm(vectors[i])
            for i, w in zip(asked.items, asked.weights, strict=True)
        ]
        assert carrier == (asked.items[int(np.argmax(shares))] if max(shares) > 0 else -1)


def test_nobody_has_no_profile():
    assert not profile_vector(np.ones((3, 4), np.float32), np.empty(0, int), np.empty(0)).any()
    model = Profile(CONFIG)
    assert len(model.recommend(table_of(model), query([]))[0]) == 0
