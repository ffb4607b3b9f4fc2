"""The ranker's networks against finite differences, torch-free."""

import numpy as np
import pytest

from models.networks import Lists, Networks, NetworksConfig

WIDTH, HIDDEN = 6, 5


@pytest.fixture
def networks():
    networks = Networks(WIDTH, NetworksConfig(hidden=HIDDEN))
    for layers in networks.layers:  # which are 0 at first
        layers.last[:] = np.linspace(-1, 1, HIDDEN)
    return networks


def some_lists(stand_for=(0, 0, 0), size=10):
    """Several lists one below the other."""
    count = len(stand_for)
    x = np.random.default_rng(0).normal(size=(count * size, WIDTH)).astype(np.float32)
    starts = np.arange(count + 1) * size
    return Lists(x, np.array([1, 2, 1]), starts, np.log(np.maximum(stand_for, 1)).astype("f4"))


def plain_scores(params, x):
    """A network in plain float64, written apart from the model; and its parameters by place."""

    def leaky(units):
        return np.where(units > 0, units, 0.01 * units)

    shapes = [(WIDTH, HIDDEN), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN,), (1,), (WIDTH,)]
    parts, at = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        parts.append(params[at : at + size].reshape(shape))
        at += size
    w1, b1, w2, b2, w3, b3, straight = parts
    return leaky(leaky(x @ w1 + b1) @ w2 + b2) @ w3 + b3 + x @ straight


def loss(params, lists):
    """The mean loss in plain float64."""
    total, scores, starts = 0.0, plain_scores(params, lists.x.astype(float)), lists.starts
    for chosen, start, stop, more in zip(
        lists.answers, starts[:-1], starts[1:], lists.stand_for.astype(float), strict=True
    ):
        odds = scores[start:stop]
        odds[chosen:] += more
        loud = chosen ** NetworksConfig().answer_power
        total -= loud * np.mean((odds - np.log(np.exp(odds).sum()))[:chosen])
    return total / len(lists.answers)


@pytest.mark.parametrize("stand_for", [(0, 0, 0), (2.5, 1, 4)])
def test_gradient_equals_finite_differences(networks, stand_for):
    lists = some_lists(stand_for)
    gradient = networks.gradient(0, lists)
    for at in range(len(gradient)):
        sides = []
        for step in (1e-6, -1e-6):
            moved = networks.params[0].astype(np.float64)
            moved[at] += step
            sides.append(loss(moved, lists))
        assert gradient[at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-3, abs=1e-5)


def test_scores_are_the_mean_of_all_in_units_of_ones_own(networks):
    x, starts = some_lists().x, some_lists().starts
    shift = np.linspace(-1, 1, WIDTH).astype(np.float32)
    scale = np.linspace(0.5, 2, WIDTH).astype(np.float32)
    networks.average[:] = networks.params
    units = np.clip((x - shift) * scale, -5, 5).astype(np.float64)
    expected = np.mean([plain_scores(params.astype(float), units) for params in networks.params], 0)
    np.testing.assert_allclose(networks.scores(x, starts, shift, scale), expected, rtol=1e-4)


def test_slopes_are_those_of_the_scores_at_the_mean_candidate(networks):
    networks.average[:] = networks.params
    for layers in networks._averaged:  # at 0 it would be on a bend of the units
        layers.first_bias[:] = np.linspace(-0.4, 0.5, HIDDEN)
        layers.second_bias[:] = np.linspace(0.3, -0.6, HIDDEN)
    straight, slope = networks.weights_by_feature()
    np.testing.assert_array_equal(straight, np.eye(WIDTH, dtype=np.float32)[0])
    for feature in range(WIDTH):
        step = 1e-6 * np.eye(WIDTH)[feature]
        up, down = (
            np.mean([plain_scores(params.astype(float), at) for params in networks.average])
            for at in (step, -step)
        )
        assert slope[feature] == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-5)


def test_each_network_learns_alone(networks):
    before = networks.params.copy()
    assert networks.step(2, some_lists(), 1)
    moved = np.any(networks.params != before, axis=1)
    assert moved.tolist() == [False, False, True, False]


def test_a_step_that_would_break_the_weights_is_not_taken(networks):
    lists, before = some_lists(), networks.params.copy()
    lists.x[3, 3] = np.nan
    assert not networks.step(0, lists, 1)
    np.testing.assert_array_equal(networks.params, before)
