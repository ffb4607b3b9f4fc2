"""Ranking: shares of training, and what an example keeps."""

import numpy as np

from recsys.board import Candidates
from recsys.features import Features, SourceScores
from recsys.rank import Rank, RankConfig, Scored


def scored_of(count):
    rng = np.random.default_rng(0)
    candidates = Candidates(
        np.arange(100, 100 + count, dtype=np.int32),
        rng.random((count, 2)).astype(np.float32),
        np.ones(count, np.uint32),
    )
    features = np.arange(count * 6, dtype=np.float32).reshape(count, 6)
    return Scored(candidates, features, rng.random(count).astype(np.float32))


def test_the_share_of_examples_falls_with_lists_and_with_looks():
    config = RankConfig(train_share_min=0.01, train_lists_full=1000, train_looks_full=2500)
    assert config.train_share(0, 0) == 1.0
    assert config.train_share(1000, 2500) == 1.0
    assert config.train_share(2_000, 2500) == 0.0625
    assert config.train_share(100, 5_000) == 0.0625
    assert config.train_share(10**9, 10**9) == 0.01


def test_an_example_keeps_the_chosen_and_the_best_of_the_others():
    rank = Rank(RankConfig(train_candidates=16), Features([SourceScores(["a", "b"])]))
    scored = scored_of(100)
    example = rank.example(scored, np.array([107, 150, 999], np.int32))
    assert example.chosen.tolist() == [0, 1]
    assert len(example.features) == 16
    rows = (example.features[:, 0] / 6).astype(int)
    assert sorted(rows[:2].tolist()) == [7, 50]
    best = [row for row in np.argsort(-scored.scores) if row not in (7, 50)][:10]
    assert rows[2:12].tolist() == best
    assert len(set(rows.tolist())) == 16


def test_short_lists_are_kept_whole():
    rank = Rank(RankConfig(train_candidates=16), Features([SourceScores(["a", "b"])]))
    example = rank.example(scored_of(9), np.array([103], np.int32))
    assert sorted((example.features[:, 0] / 6).astype(int).tolist()) == list(range(9))


def test_without_an_answer_an_example_is_empty():
    rank = Rank(RankConfig(), Features([SourceScores(["a", "b"])]))
    for count in (9, 0):
        example = rank.example(scored_of(count), np.array([5], np.int32))
        assert example.features.shape == (0, 6)
        assert len(example.chosen) == 0
