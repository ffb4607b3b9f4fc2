"""The best few of many scores, against sorting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.top import LANES, ROOM, best_of, bound, select

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.one_of(st.integers(0, 40), st.integers(2 * LANES - 2, 6 * LANES))


def some_scores(seed, size, ties):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=size).astype(np.float32)
    if ties:
        scores = np.round(scores).astype(np.float32)
    odd = rng.random(size)
    scores[odd < 0.02] = np.nan
    scores[odd > 0.98] = np.inf
    return scores


@given(SEEDS, SIZES, st.booleans(), st.integers(0, 1) | st.integers(1, 2 * LANES))
@settings(deadline=None)
def test_the_highest_are_found(seed, size, ties, keep):
    scores = some_scores(seed, size, ties)
    places, best = np.empty(ROOM * keep, np.int32), np.empty(ROOM * keep, np.float32)
    count = best_of(scores, keep, places, best)
    good = scores[(scores > 0) & (scores < np.inf)]
    assert sorted(best[:count].tolist(), reverse=True) == sorted(good.tolist(), reverse=True)[:keep]
    assert np.array_equal(scores[places[:count]], best[:count])
    assert len(set(places[:count].tolist())) == count


@given(SEEDS, SIZES, st.booleans(), st.integers(1, 2 * LANES))
@settings(deadline=None)
def test_so_many_reach_the_bound(seed, size, ties, keep):
    scores = some_scores(seed, size, ties)
    floor = np.int32(bound(scores.view(np.int32), keep)).view(np.float32)
    assert floor > 0
    reach = int(((scores >= floor) & (scores < np.inf)).sum())
    assert reach >= min(keep, int(((scores > 0) & (scores < np.inf)).sum()))


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=60), st.data())
@settings(deadline=None)
def test_selection_moves_the_highest_to_the_front(scores, data):
    keep = data.draw(st.integers(1, len(scores)))
    places, best = np.arange(len(scores), dtype=np.int32), np.array(scores, np.float32)
    select(len(scores), keep, places, best)
    assert sorted(best[:keep].tolist()) == sorted(np.float32(scores).tolist())[-keep:]
    assert np.array_equal(np.float32(scores)[places], best)
