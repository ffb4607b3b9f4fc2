"""Factors on their way: a refit is taken when all of it is there, and not before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ease import Weights
from models.mapping import fit_mapping
from recsys.factors import VERSION, Announcement, Factors, FactorsError, Refit, encode

RNG = np.random.default_rng(3)


def a_refit(version, items=5000, width=4, mapping=None, neighbours=3):
    keys = np.arange(1, items + 1, dtype=np.uint64) * np.uint64(7919)
    vectors = RNG.normal(size=(items, width)).astype(np.float16).astype(np.float32)
    told = Announcement(
        VERSION, version, -(-items // 2000), items, 10, width, 0, {"0": 5}, mapping is not None
    )
    weights = None
    if neighbours:
        values = RNG.random((items, neighbours)).astype(np.float16).astype(np.float32)
        weights = Weights(RNG.integers(-1, items, (items, neighbours)).astype(np.int32), values)
    return told, Refit(version, keys, vectors, mapping, "small@1" if mapping else "", weights)


def test_a_refit_comes_back_whole():
    x = RNG.normal(size=(60, 6)).astype(np.float32)
    told, refit = a_refit("als-1", mapping=fit_mapping(x, x[:, :4] * 2))
    factors = Factors()
    factors.load_records(encode(told, refit))
    found = factors.take()
    assert found.version == "als-1"
    np.testing.assert_array_equal(found.keys, refit.keys)
    np.testing.assert_array_equal(found.vectors, refit.vectors)
    np.testing.assert_array_equal(found.weights.neighbours, refit.weights.neighbours)
    np.testing.assert_array_equal(found.weights.values, refit.weights.values)
    np.testing.assert_allclose(found.mapping(x), refit.mapping(x), atol=1e-5)
    assert factors.take() is None


def test_a_refit_of_before_there_were_weights_has_none():
    factors = Factors()
    factors.load_records(encode(*a_refit("als-1", neighbours=0)))
    assert factors.take().weights is None


@given(st.integers(0, 3))
def test_a_missing_part_keeps_the_old_factors_in_force(lost):
    factors = Factors()
    told, refit = a_refit("als-1")
    factors.load_records(encode(told, refit))
    assert factors.take().version == "als-1"
    records = encode(*a_refit("als-2"))
    late = records.pop(lost)
    factors.load_records(records)
    assert factors.take() is None
    factors.load_records([late])
    assert factors.take().version == "als-2"


def test_a_product_nobody_touched_takes_the_vector_of_its_picture():
    x = RNG.normal(size=(60, 6)).astype(np.float32)
    _, refit = a_refit("als-1", items=3, mapping=fit_mapping(x, x[:, :4] * 2))
    keys = np.array([refit.keys[0], 1], np.uint64)
    all_keys, vectors = refit.with_pictures(keys, x[:2])
    assert all_keys.tolist() == [*refit.keys.tolist(), 1]
    np.testing.assert_array_equal(vectors[:3], refit.vectors)
    np.testing.assert_allclose(vectors[3], x[1, :4] * 2, atol=0.2)


def test_what_is_not_a_refit_is_refused():
    with pytest.raises(FactorsError):
        Factors().load_records([(b"part-0", b"\xc1")])
    told, refit = a_refit("als-1", items=2)
    told.format = 9
    with pytest.raises(FactorsError, match="format 9"):
        Factors().load_records(encode(told, refit)[-1:])
