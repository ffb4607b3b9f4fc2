"""The sparse matrix of pairs holds what a dense one would."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import pairs as module
from models.baselines.pairs import BLOCK, Pairs, TooManyPairsError

ITEMS = 40
ADDED = st.lists(
    st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, ITEMS - 1)), max_size=60),
    max_size=40,
)


@settings(deadline=None)  # it may compile
@given(ADDED, st.lists(st.integers(0, ITEMS - 1), max_size=8), st.integers(0, ITEMS))
def test_it_reads_what_a_dense_matrix_reads(batches, asked, known):
    pairs, dense = Pairs(ITEMS), np.zeros((ITEMS, ITEMS), np.float32)
    for number, batch in enumerate(batches):
        items, others = np.array(batch, np.int32).reshape(-1, 2).T
        pairs.add(items, others, np.full(len(items), number + 1, np.float32))
        np.add.at(dense, (items, others), np.float32(number + 1))
    assert len(pairs) == np.count_nonzero(dense)
    pairs.scale(0.5)
    weights = np.arange(1, len(asked) + 1, dtype=np.float32)
    out = np.zeros(known, np.float32)
    pairs.read(np.array(asked, np.int64), weights, out)
    assert out.tolist() == (weights @ dense[np.array(asked, int)] * 0.5)[:known].tolist()


def test_rows_go_on_over_many_blocks():
    count = 50 * BLOCK + 3
    pairs = Pairs(count)
    for first in range(0, count, 7):
        others = np.arange(first, min(first + 7, count))
        pairs.add(np.full(len(others), 5), others, others.astype(np.float32))
    out = np.zeros(count, np.float32)
    pairs.read(np.array([5]), np.ones(1, np.float32), out)
    assert out.tolist() == list(range(count))


def test_more_pairs_than_may_be_counted_are_refused(monkeypatch):
    monkeypatch.setattr(module, "PAIRS_MAX", 10)
    pairs = Pairs(20)
    pairs.add(np.zeros(10, int), np.arange(10), np.ones(10, np.float32))
    with pytest.raises(TooManyPairsError, match="10 of them"):
        pairs.add(np.zeros(1, int), np.array([10]), np.ones(1, np.float32))
    assert len(pairs) == 10
