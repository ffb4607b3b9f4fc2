"""Owed lists: first come, first paid; a round can be taken back; records tell the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.owed import SUFFIX, Owed, OwedLists

USERS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(st.tuples(USERS, st.booleans(), st.integers(1, 1_000)), max_size=30)


def test_who_waits_longest_comes_first_and_keeps_the_place():
    owed = OwedLists()
    owed.begin()
    owed.defer("b", 1, 10, now_ms=100)
    owed.defer("a", 2, 20, now_ms=200)
    owed.defer("b", 3, 30, now_ms=300)
    assert owed.take(9) == [("b", Owed(3, 30, 100)), ("a", Owed(2, 20, 200))]
    assert owed.oldest_ms() == 100
    owed.settle("b")
    assert owed.oldest_ms() == 200
    assert len(owed) == 1


def test_settling_nobody_changes_nothing():
    owed = OwedLists()
    owed.begin()
    owed.settle("nobody")
    assert owed.dirty_records() == []
    assert owed.oldest_ms() is None


@given(STEPS, STEPS)
def test_a_round_that_is_taken_back_leaves_no_trace(before, after):
    owed = OwedLists()
    _apply(owed, before)
    owed.commit()
    kept = owed.take(99)
    owed.begin()
    _apply(owed, after, begin=False)
    owed.rollback()
    assert owed.take(99) == kept
    assert owed.dirty_records() == []


@given(st.lists(STEPS, max_size=5))
def test_the_log_of_all_rounds_gives_the_same_lists(rounds):
    owed, restored = OwedLists(), OwedLists()
    for steps in rounds:
        _apply(owed, steps)
        restored.load_records(owed.dirty_records())
        owed.commit()
    assert dict(restored.take(99)) == dict(owed.take(99))
    again = OwedLists()
    again.load_records(owed.snapshot())
    assert again.take(99) == owed.take(99)


def test_another_version_is_refused():
    owed = OwedLists()
    owed.begin()
    owed.defer("u", 1, 2, 3)
    ((key, value),) = owed.dirty_records()
    with pytest.raises(ValueError, match="version 9"):
        OwedLists().load_records([(key, b"\x09" + value[1:])])
    assert key == b"u" + SUFFIX


def _apply(owed, steps, *, begin=True):
    if begin:
        owed.begin()
    for number, (user, defer, now_ms) in enumerate(steps):
        if defer:
            owed.defer(user, number, number, now_ms)
        else:
            owed.settle(user)
