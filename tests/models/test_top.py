"""The best few against sorting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.top import top_products, top_scores

SCORES = hnp.arrays(
    np.float32, st.integers(0, 60), elements=st.floats(-2, 2, width=32) | st.just(np.nan)
)


@given(scores=SCORES, barred=st.sets(st.integers(0, 59)), top=st.integers(0, 12))
@settings(deadline=None)
def test_they_are_the_highest_usable_ones(scores, barred, top):
    usable = np.array([slot not in barred for slot in range(len(scores))], np.bool_)
    slots, best = top_scores(scores, usable, top)
    good = sorted((scores[usable & (scores > 0)]).tolist(), reverse=True)
    assert sorted(best.tolist(), reverse=True) == good[:top]
    np.testing.assert_array_equal(scores[slots], best)
    assert usable[slots].all()
    assert len(set(slots.tolist())) == len(slots)


def test_products_are_inner_products():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    user = rng.normal(size=8).astype(np.float32)
    slots, best = top_products(vectors, user, np.ones(200, np.bool_), 20)
    expected = np.argsort(-(vectors @ user))[:20]
    assert set(slots.tolist()) == set(expected.tolist())
    np.testing.assert_allclose(best, (vectors @ user)[slots], rtol=1e-5)
