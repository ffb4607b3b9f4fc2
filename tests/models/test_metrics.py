"""Measures against ir-measures on random lists, and by hand."""

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, nDCG

from models import metrics
from models.metrics import MISSED

K = 10


def random_lists(seed, queries=60, items=40):
    rng = np.random.default_rng(seed)
    listed = [rng.permutation(items)[:15].tolist() for _ in range(queries)]
    relevant = [set(rng.permutation(items)[: rng.integers(1, 12)].tolist()) for _ in range(queries)]
    return listed, relevant


def judged(listed, relevant):
    """The same as ir-measures reads it."""
    qrels = [
        ir_measures.Qrel(str(query), str(item), 1)
        for query, items in enumerate(relevant)
        for item in items
    ]
    run = [
        ir_measures.ScoredDoc(str(query), str(item), float(-place))
        for query, items in enumerate(listed)
        for place, item in enumerate(items)
    ]
    return qrels, run


@pytest.mark.parametrize("seed", range(3))
def test_lists_with_several_answers_agree_with_ir_measures(seed):
    listed, relevant = random_lists(seed)
    told = ir_measures.calc_aggregate([nDCG @ K, R @ K, RR @ K], *judged(listed, relevant))
    pairs = list(zip(listed, relevant, strict=True))
    assert np.mean([metrics.ndcg(*pair, K) for pair in pairs]) == pytest.approx(told[nDCG @ K])
    assert np.mean([metrics.recall(*pair, K) for pair in pairs]) == pytest.approx(told[R @ K])
    found = np.mean([metrics.reciprocal_rank(*pair, K) for pair in pairs])
    assert found == pytest.approx(told[RR @ K])


def test_single_answers_agree_with_ir_measures():
    rng = np.random.default_rng(7)
    listed, _ = random_lists(7)
    answers = [{int(rng.integers(0, 40))} for _ in listed]
    told = ir_measures.calc_aggregate([nDCG @ K, R @ K, RR @ K], *judged(listed, answers))
    ranks = np.array(
        [
            items.index(*answer) if answer <= set(items) else MISSED
            for items, answer in zip(listed, answers, strict=True)
        ],
        np.int32,
    )
    assert metrics.gains(ranks, K).mean() == pytest.approx(told[nDCG @ K])
    assert metrics.hits(ranks, K).mean() == pytest.approx(told[R @ K])
    assert metrics.reciprocal_ranks(ranks, K).mean() == pytest.approx(told[RR @ K])


def test_exposure_coverage_and_gini():
    lists = np.array([[0, 1], [0, 2], [0, -1]], np.int32)
    shown = metrics.exposure(lists, 4)
    assert shown.tolist() == [3, 1, 1, 0]
    assert metrics.coverage(shown) == 0.75
    # Mean absolute difference over twice the mean, the definition.
    by_definition = np.abs(shown[:, None] - shown[None, :]).mean() / (2 * shown.mean())
    assert metrics.gini(shown) == pytest.approx(by_definition)
    assert metrics.gini(np.array([0, 0, 0, 9])) == pytest.approx(0.75)


def test_novelty_is_self_information():
    counts = np.array([8, 4, 4], np.int64)
    assert metrics.novelty(np.array([[0, 1]], np.int32), counts) == pytest.approx((1 + 2) / 2)


def test_diversity_is_the_mean_cosine_distance_of_pairs():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 6)).astype(np.float32)
    features[3] = 0  # nothing known of it
    lists = np.array([[0, 1, 2, 3], [4, 5, -1, -1]], np.int32)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    def distance(one, other):
        return 1 - float(unit[one] @ unit[other])

    first = np.mean([distance(0, 1), distance(0, 2), distance(1, 2)])
    expected = np.mean([first, distance(4, 5)])
    assert metrics.intra_list_diversity(lists, features) == pytest.approx(expected, abs=1e-6)


def test_windows_and_their_paired_test():
    rng = np.random.default_rng(1)
    one = rng.random(2_000)
    assert metrics.by_window(np.arange(10.0), 5).tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    better = metrics.by_window(one + 0.05, 20)
    assert metrics.paired_p(metrics.by_window(one, 20), better) < 0.001
    assert metrics.paired_p(better, better) == 1.0
    half = metrics.interval(one)
    assert half == pytest.approx(1.96 * one.std(ddof=1) / np.sqrt(2_000))


def test_the_interval_over_groups_covers_the_true_mean():
    """Of values that share their group's mean; taken as independent, far fewer intervals do."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(100), rng.integers(1, 20, 100))
    covered, naively = [], []
    for _ in range(400):
        values = rng.normal(size=100)[groups] + rng.normal(size=len(groups))
        covered.append(abs(values.mean()) < metrics.interval(values, groups))
        naively.append(abs(values.mean()) < metrics.interval(values))
    assert np.mean(naively) < 0.7 < 0.9 < np.mean(covered)
    assert metrics.interval(values, np.arange(len(groups))) == pytest.approx(
        metrics.interval(values)
    )
    assert metrics.interval(values, np.zeros(len(groups), int)) == np.inf
    assert metrics.interval(np.empty(0)) == np.inf
