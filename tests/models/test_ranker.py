"""The ranker learns from few lists and many, comes back from its bytes, and never says NaN."""

from dataclasses import replace

import numpy as np
import pytest

from models.ranker import Ranker, RankerConfig

SMALL = RankerConfig(hidden=5, batch_lists=4, replay_steps=1, replay_lists=16, list_size_max=12)


def lists(count, features=6, size=10, seed=0):
    """Lists whose answer depends on two features in a way no straight line can tell."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rows = rng.normal(size=(size, features)).astype(np.float32)
        yield rows, np.array([np.argmax(np.abs(rows[:, 1]) - np.abs(rows[:, 3]))])


def test_it_learns_what_a_straight_line_cannot():
    ranker = Ranker(6, RankerConfig(hidden=16, batch_lists=16, learning_rate=5e-3))
    for rows, chosen in lists(2000):
        ranker.learn(rows, chosen)
    hits = [int(np.argmax(ranker.scores(rows))) in chosen for rows, chosen in lists(200, seed=9)]
    assert np.mean(hits) > 0.6


def test_before_it_has_learned_the_prior_ranks():
    rows = next(lists(1))[0]
    assert np.argsort(Ranker(6).scores(rows)).tolist() == np.argsort(rows[:, 0]).tolist()
    prior = np.array([0.0, 0.0, 1.0, 0.0, -0.5, 0.0])
    told = Ranker(6, prior=prior).scores(rows)
    assert np.argsort(told).tolist() == np.argsort(rows @ prior).tolist()


def test_few_lists_teach_it_what_a_line_can_tell():
    rng = np.random.default_rng(0)
    ranker, hits = Ranker(12, prior=np.zeros(12)), []
    for n in range(150):
        rows = rng.normal(size=(20, 12)).astype(np.float32)
        odds = np.exp(3.0 * rows[:, 5] - 2.0 * rows[:, 7])
        chosen = rng.choice(20, 3, replace=False, p=odds / odds.sum())
        if n >= 100:
            hits.append(int(np.argmax(ranker.scores(rows))) in chosen)
        ranker.learn(rows, chosen)
    assert np.mean(hits) > 0.8
    assert np.argsort(-np.abs(ranker.line.weights))[:2].tolist() == [5, 7]


def test_a_step_looks_at_the_chosen_and_at_a_fair_sample_of_the_others():
    config = replace(SMALL, list_size_max=40, list_sample=10)
    ranker = Ranker(6, config)
    rows = np.arange(40, dtype=np.float32)[:, None] * np.ones(6, np.float32)
    ranker.learn(rows, np.array([3, 17]))
    seen = np.zeros(40)
    for steps in range(2_000):
        ranker.counters[0] = steps
        lists = ranker._sample(1, np.array([0]))
        back = lists.x[:, 0] / ranker._scale[0] + ranker._shift[0]
        found = np.rint(back).astype(int)
        assert found[:2].tolist() == [3, 17]
        assert len(set(found)) == 10
        seen[found] += 1
    assert np.exp(lists.stand_for[0]) == pytest.approx(38 / 8)
    others = np.delete(seen, [3, 17])
    assert others.min() > 330, "2,000 * 8 / 38 is 421, its standard deviation 18"
    assert others.max() < 510


@pytest.mark.parametrize(("chosen", "expected"), [(1, 10), (8, 13), (40, 40)])
def test_lists_with_many_chosen_keep_some_others(chosen, expected):
    ranker = Ranker(6, replace(SMALL, list_size_max=40, list_sample=10))
    ranker.learn(next(lists(1, size=60))[0], np.arange(chosen))
    sampled = ranker._sample(0, np.array([0]))
    assert sampled.starts.tolist() == [0, expected]
    assert sampled.answers.tolist() == [chosen]


def test_same_seed_same_weights():
    first, second = Ranker(6, SMALL), Ranker(6, SMALL)
    for rows, chosen in lists(40):
        first.learn(rows, chosen)
        second.learn(rows, chosen)
    np.testing.assert_array_equal(first.networks.params, second.networks.params)
    assert first.steps == 10 * (1 + SMALL.replay_steps)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_nan_never_escapes(bad):
    ranker = Ranker(6, SMALL)
    for n, (rows, chosen) in enumerate(lists(40)):
        if n % 3 == 0:
            rows[n % 10, n % 6] = bad
        ranker.learn(rows, chosen)
        assert np.isfinite(ranker.scores(rows)).all()
    assert np.isfinite(ranker.networks.params).all()


def test_weights_that_blew_up_are_put_back():
    ranker = Ranker(6, SMALL)
    for rows, chosen in lists(4):
        ranker.learn(rows, chosen)
    good = ranker.networks.params.copy()
    ranker.networks.moments[:] = np.nan
    for rows, chosen in lists(4, seed=3):
        ranker.learn(rows, chosen)
    assert np.isfinite(ranker.networks.params).all()
    assert ranker.counters[2] > 0
    assert np.abs(ranker.networks.params - good).max() < 0.1


def test_lists_it_cannot_use_are_let_be():
    ranker = Ranker(6, SMALL)
    rows, _ = next(lists(1))
    ranker.learn(rows, np.array([], int))
    ranker.learn(rows[:, :3], np.array([0]))
    ranker.learn(rows, np.array([99, -5]))
    assert ranker.lists == 0
    assert ranker.looks == 2  # not of those of another width
    assert len(ranker.scores(rows[:0])) == 0


def test_rollback_and_bytes():
    ranker = Ranker(6, SMALL)
    for rows, chosen in lists(10):
        ranker.learn(rows, chosen)
    before = ranker.pack()
    ranker.begin()
    assert not ranker.changed
    for rows, chosen in lists(10, seed=2):
        ranker.learn(rows, chosen)
    assert ranker.changed
    assert ranker.pack() != before
    ranker.rollback()
    assert ranker.pack() == before
    other = Ranker(6, SMALL)
    assert other.unpack(before)
    rows = next(lists(1, seed=5))[0]
    np.testing.assert_array_equal(ranker.scores(rows), other.scores(rows))
    assert not other.unpack(before[:-1])
    assert other.pack() == before
    wider = Ranker(7, SMALL)
    kept = wider.pack()
    assert not wider.unpack(before)
    assert wider.pack() == kept


def test_the_line_speaks_first_and_the_networks_alone_in_the_end():
    config = RankerConfig(hidden=16, batch_lists=4, learning_rate=5e-3, line_lists=1_500)
    ranker = Ranker(6, config)
    rows = next(lists(1, seed=9))[0]
    starts = np.array([0, len(rows)])
    assert ranker.loud == (1.0, 0.0)
    np.testing.assert_array_equal(ranker.scores(rows), ranker.line_scores(rows))
    heard = []
    for some, chosen in lists(1_500):
        ranker.learn(some, chosen)
        heard.append(ranker.loud)
    assert heard[20][0] > 0.7 > heard[20][1]
    # A line can tell nothing of these lists, and the third of them hears that.
    assert heard[1_400][0] < 0.1
    assert ranker.loud == (0.0, 1.0)
    np.testing.assert_array_equal(ranker.scores(rows), ranker.network_scores(rows, starts))
    assert ranker.late[0] > ranker.late[1] + 0.1


def test_networks_gone_astray_leave_it_to_the_line():
    def told(count, seed):
        rng = np.random.default_rng(seed)
        for _ in range(count):
            rows = rng.normal(size=(20, 6)).astype(np.float32)
            yield rows, np.array([int(rows[:, 2].argmax())])

    ranker = Ranker(6, RankerConfig(learning_rate=0.0, learning_rate_min=0.0, line_lists=100))
    for rows, chosen in told(200, 0):
        ranker.learn(rows, chosen)
    assert ranker.loud == (1.0, 0.0)  # these never learn
    ranker.late[0] = ranker.late[1]
    assert ranker.loud == (0.0, 1.0)
    ranker.networks.average[:] = 1e30  # what they say then is no number, which counts as 0
    for rows, chosen in told(100, 1):
        assert np.isfinite(ranker.scores(rows)).all()
        ranker.learn(rows, chosen)
    assert ranker.loud == (1.0, 0.0)


def test_it_knows_how_good_each_source_was_of_late():
    rng = np.random.default_rng(0)
    ranker = Ranker(4, RankerConfig(hidden=4), slice(2, 4))
    for _ in range(30):
        rows = rng.random((40, 4)).astype(np.float32)
        ranker.learn(rows, np.array([int(rows[:, 3].argmax())]))
    assert ranker.late[3] == pytest.approx(1.0)
    assert ranker.late[2] < 0.4


def test_one_that_was_learned_elsewhere_replays_what_it_has_seen_itself(monkeypatch):
    ranker, other = Ranker(6, SMALL), Ranker(6, SMALL)
    for rows, chosen in lists(21):
        ranker.learn(rows, chosen)
    assert other.unpack(ranker.pack())
    replayed = []
    monkeypatch.setattr(other, "_step", lambda picked: replayed.append(other._lengths[picked]))
    for rows, chosen in lists(40, seed=3):
        other.learn(rows, chosen)
    assert len(replayed) == 20
    assert all((lengths > 0).all() for lengths in replayed), "no list of nothing"


def test_a_list_without_an_answer_leaves_what_is_kept():
    ranker = Ranker(6, SMALL)
    for rows, chosen in lists(SMALL.replay_lists):
        ranker.learn(rows, chosen)
    kept = ranker._features.copy()
    ranker.learn(np.full((10, 6), 9.0, np.float32), np.array([], int))
    np.testing.assert_array_equal(ranker._features, kept)
