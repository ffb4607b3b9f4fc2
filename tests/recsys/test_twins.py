import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Isotonic
from models.siamese import unite
from recsys.item_state import ItemState
from recsys.pipeline import default_models
from recsys.twins import Twins
from recsys.vectors import ProductVectors
from streams.events import ItemEmbedding


def slots(*numbers):
    return np.array(numbers, np.int32)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_groups_are_those_of_union_find(pairs):
    twins = Twins()
    for one, other in pairs:
        twins.unite(one, slots(other))
    expected = unite(range(13), pairs)
    for item in range(13):
        group = [other for other in range(13) if expected[other] == expected[item]]
        assert twins.of(slots(item)).tolist() == (group if len(group) > 1 else [])
    kept = twins.single(slots(*range(13)), np.zeros(13))
    assert sorted(kept.tolist()) == sorted(set(expected.values()))


def test_one_that_goes_leaves_the_others_together():
    twins = Twins()
    twins.unite(1, slots(2, 3))
    twins.remove(1)
    assert twins.of(slots(2)).tolist() == [2, 3]
    twins.remove(3)
    assert len(twins) == 0
    twins.remove(3)


def test_the_best_of_a_group_stays():
    twins = Twins()
    twins.unite(7, slots(8, 9))
    scores = np.array([0.1, 0.5, 0.3, 0.2])
    assert twins.single(slots(7, 8, 1, 9), scores).tolist() == [1, 2]
    assert twins.single(slots(), np.zeros(0)).tolist() == []


@pytest.fixture
def vectors():
    return ProductVectors(ItemState(default_models()), "e@1", same_product_cosine=0.95)


def put(vectors, item_id, degrees):
    radians = np.radians(degrees)
    row = np.array([np.cos(radians), np.sin(radians)], "<f4")
    vectors.put(ItemEmbedding(item_id=item_id, encoder="e@1", vector=row.tobytes()))
    return vectors._items.find(item_id)


def test_products_become_twins_by_their_pictures(vectors):
    a, b, c = put(vectors, "a", 0), put(vectors, "b", 90), put(vectors, "c", 5)
    assert vectors.twins.of(slots(a)).tolist() == sorted([a, c])
    assert vectors.twins.of(slots(b)).tolist() == []
    put(vectors, "c", 92)
    assert vectors.twins.of(slots(b)).tolist() == sorted([b, c])
    assert vectors.twins.of(slots(a)).tolist() == []
    vectors.remove("b")
    assert len(vectors.twins) == 0


def test_there_are_none_unless_asked_for():
    vectors = ProductVectors(ItemState(default_models()), "e@1")
    put(vectors, "a", 0)
    put(vectors, "b", 0)
    assert len(vectors.twins) == 0


def test_training_tells_the_cosine_of_one_product():
    from recsys.training_report import same_product_cosine

    assert same_product_cosine(Isotonic(np.array([0.0, 1.0]), np.array([0.0, 1.0]))) == 0.95
    assert same_product_cosine(Isotonic(np.array([0.0, 1.0]), np.array([0.0, 0.9]))) == 2
