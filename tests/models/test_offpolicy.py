"""Counterfactual estimates against data whose answer is known by construction."""

import numpy as np
import pytest

from models.offpolicy import doubly_robust, ips, snips

ARMS = 5
REWARDS = np.array([0.05, 0.1, 0.2, 0.4, 0.6])  # of each arm in a plain context
SHIFT = 0.3  # what the other context adds


def logged_bandit(count, seed, *, logging, target):
    """A log of a bandit with two contexts, whose target policy's value is known exactly."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 2, count)
    means = REWARDS[None, :] + SHIFT * (context[:, None] == 1) * (np.arange(ARMS) < 2)[None, :]
    arms = (rng.random(count)[:, None] > np.cumsum(logging[context], axis=1)).sum(axis=1)
    rewards = (rng.random(count) < means[np.arange(count), arms]).astype(float)
    both = np.stack([REWARDS, REWARDS + SHIFT * (np.arange(ARMS) < 2)])
    truth = float((target * both).sum(axis=1).mean())
    rows = np.arange(count)
    return {
        "rewards": rewards,
        "target": target[context, arms],
        "logged": logging[context, arms],
        "predicted": means[rows, arms],
        "predicted_target": (target[context] * means).sum(axis=1),
    }, truth


LOGGING = np.array([[0.4, 0.3, 0.15, 0.1, 0.05], [0.3, 0.3, 0.2, 0.1, 0.1]])
TARGET = np.array([[0.05, 0.05, 0.1, 0.3, 0.5], [0.4, 0.3, 0.1, 0.1, 0.1]])


def basics(log):
    return log["rewards"], log["target"], log["logged"]


@pytest.mark.parametrize("seed", range(5))
def test_estimates_hold_the_known_value(seed):
    log, truth = logged_bandit(20_000, seed, logging=LOGGING, target=TARGET)
    for estimate in (
        ips(*basics(log)),
        snips(*basics(log)),
        doubly_robust(**log),
    ):
        assert abs(estimate.value - truth) < 4 * estimate.standard_error
        assert estimate.standard_error < 0.02
    # The plain mean of the log is far off, so the test can fail.
    assert abs(log["rewards"].mean() - truth) > 0.1


def test_intervals_cover_as_often_as_they_say():
    covered = {"ips": 0, "snips": 0, "dr": 0}
    for seed in range(200):
        log, truth = logged_bandit(2_000, seed, logging=LOGGING, target=TARGET)
        found = {"ips": ips(*basics(log)), "snips": snips(*basics(log)), "dr": doubly_robust(**log)}
        for name, estimate in found.items():
            low, high = estimate.interval()
            covered[name] += low <= truth <= high
    assert all(180 <= count <= 200 for count in covered.values()), covered


def test_doubly_robust_forgives_one_wrong_side():
    log, truth = logged_bandit(50_000, 1, logging=LOGGING, target=TARGET)
    wrong_model = {
        **log,
        "predicted": np.full(50_000, 0.9),
        "predicted_target": np.full(50_000, 0.9),
    }
    assert doubly_robust(**wrong_model).value == pytest.approx(truth, abs=0.02)
    wrong_propensities = {**log, "logged": np.full(50_000, 0.2)}
    assert doubly_robust(**wrong_propensities).value == pytest.approx(truth, abs=0.02)
    assert abs(ips(*basics(wrong_propensities)).value - truth) > 0.05


def test_a_policy_against_its_own_log_is_its_mean():
    log, _ = logged_bandit(1_000, 3, logging=LOGGING, target=LOGGING)
    assert ips(*basics(log)).value == pytest.approx(log["rewards"].mean())
    assert snips(*basics(log)).effective_size == pytest.approx(1_000)


def test_clipping_bounds_the_weights():
    log, _ = logged_bandit(1_000, 4, logging=LOGGING, target=TARGET)
    clipped = ips(*basics(log), weight_max=1.0)
    assert clipped.value <= log["rewards"].mean() + 1e-12
    assert clipped.effective_size > ips(*basics(log)).effective_size


@pytest.mark.parametrize(
    ("rewards", "target", "logged"),
    [([1.0], [0.5], [0.0]), ([1.0], [1.5], [0.5]), ([1.0], [0.5, 0.5], [0.5]), ([], [], [])],
)
def test_impossible_propensities_are_refused(rewards, target, logged):
    with pytest.raises(ValueError, match=r"must|no decisions"):
        ips(np.array(rewards), np.array(target), np.array(logged))
