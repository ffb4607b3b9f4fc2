import numpy as np
import pytest

from models.encoder import unit_rows
from models.retrieval import retrieval


def angles(*degrees):
    radians = np.radians(degrees)
    return unit_rows(np.stack([np.cos(radians), np.sin(radians)], axis=1))


def test_by_hand():
    # from 0: ranks are 1 (right), 2 (wrong), 3 (right) of two that are right
    answer = retrieval(angles(0), np.array([7]), angles(10, 20, 30, 40), np.array([7, 8, 7, 8]))
    assert answer.recall_at_1 == 1
    assert answer.mean_average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_a_query_is_not_its_own_answer():
    answer = retrieval(angles(0, 1, 50, 90), np.array([1, 2, 1, 2]))
    assert answer.recall_at_1 == 0
    assert answer.queries == 4


def test_queries_without_anything_to_find_do_not_count():
    answer = retrieval(angles(0, 1, 50), np.array([1, 1, 9]))
    assert (answer.queries, answer.recall_at_1) == (2, 1)
    with pytest.raises(ValueError, match="anything"):
        retrieval(angles(0, 1), np.array([1, 2]))


def test_more_right_ones_than_places():
    answer = retrieval(angles(*range(30)), np.zeros(30, np.int64))
    assert answer.mean_average_precision == 1
