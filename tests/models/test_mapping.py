import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder import unit_rows
from models.mapping import ImageMapping, association, fit_mapping


def world(count, seed=0, noise=0.1):
    """Image vectors, and factors that follow from them."""
    generator = np.random.default_rng(seed)
    images = unit_rows(generator.normal(size=(count, 40)))
    matrix = np.random.default_rng(7).normal(size=(40, 6))
    return images, (images @ matrix + 2 + noise * generator.normal(size=(count, 6)))


def test_a_new_product_lands_near_its_factors():
    mapping = fit_mapping(*world(300))
    images, factors = world(50, seed=1, noise=0)
    error = np.linalg.norm(mapping(images) - factors, axis=1).mean()
    spread = np.linalg.norm(factors - factors.mean(axis=0), axis=1).mean()
    assert error < 0.15 * spread


def test_equals_ridge_regression_by_its_normal_equations():
    images, factors = world(60)
    mapping = fit_mapping(images, factors, penalties=(0.5,))
    x = (images - images.mean(axis=0)).astype(np.float64) / np.sqrt(60)
    y = (factors - factors.mean(axis=0)) / np.sqrt(60)
    scale = np.trace(x.T @ x) / 40
    expected = np.linalg.solve(x.T @ x + 0.5 * scale * np.eye(40), x.T @ y)
    assert np.allclose(mapping.matrix, expected, atol=1e-4)


def test_noise_asks_for_a_larger_penalty():
    quiet = fit_mapping(*world(100, noise=0.01)).penalty
    loud = fit_mapping(*world(100, noise=5.0)).penalty
    assert loud > quiet


def test_products_without_weight_do_not_count():
    images, factors = world(200)
    lies = factors.copy()
    lies[100:] = 99
    weights = np.r_[np.ones(100), np.zeros(100)]
    mapping = fit_mapping(images, lies, weights, penalties=(0.1,))
    honest = fit_mapping(images[:100], factors[:100], penalties=(0.1,))
    assert np.allclose(mapping.matrix, honest.matrix, atol=1e-3)


def test_is_restored_from_its_arrays():
    images, factors = world(50)
    mapping = fit_mapping(images, factors)
    again = ImageMapping.from_arrays(mapping.arrays())
    assert np.array_equal(mapping(images), again(images))
    assert again.penalty == mapping.penalty


def test_too_few_products():
    with pytest.raises(ValueError, match="two products"):
        fit_mapping(np.ones((1, 3)), np.ones((1, 2)))


@given(st.integers(0, 100), st.floats(-1, 1))
def test_association_is_the_cosine_over_its_threshold(seed, threshold):
    one, other = np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float32)
    cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    found = association(one, other, threshold)
    if abs(cosine - threshold) > 1e-5:
        assert (found is not None) == (cosine > threshold)
    assert found is None or found == pytest.approx(cosine, abs=1e-5)
