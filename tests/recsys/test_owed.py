"""Owed lists: first come, first paid; a round can be taken back; records tell the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.owed import SUFFIX, Owed, OwedLists

USERS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(st.tuples(USERS, st.booleans(), st.integers(1, 1_000)), max_size=30)


def everything(owed: OwedLists) -> list[tuple[str, Owed]]:
    """All that wait, longest first."""
    return owed.due(now_ms=10**15, overdue_ms=10**15, room=0)


def test_who_waits_longest_comes_first_and_keeps_the_place():
    owed = OwedLists()
    owed.begin()
    owed.defer("b", 1, 10, now_ms=100)
    owed.defer("a", 2, 20, now_ms=200)
    owed.defer("b", 3, 30, now_ms=300)
    assert everything(owed) == [("b", Owed(3, 30, 100)), ("a", Owed(2, 20, 200))]
    assert owed.oldest_ms() == 100
    owed.settle("b")
    assert owed.oldest_ms() == 200
    assert len(owed) == 1


def test_due_are_the_overdue_and_others_as_far_as_there_is_room():
    owed = OwedLists()
    owed.begin()
    for number, user in enumerate("abcd"):
        owed.defer(user, number, number, now_ms=100 * number)

    def due(overdue_ms, room, now_ms=1_000):
        return "".join(user for user, _ in owed.due(now_ms, overdue_ms, room))

    assert (due(100, 0), due(100, 3), due(-1, 1), due(-1, 0)) == ("ab", "abc", "a", "")
    assert due(-1, 0, now_ms=-1) == "abcd", "a clock was set back: nobody knows how long they wait"


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
    kept = everything(owed)
    owed.begin()
    _apply(owed, after, begin=False)
    owed.rollback()
    assert everything(owed) == kept
    assert owed.dirty_records() == []


@given(st.lists(STEPS, max_size=5))
def test_the_log_of_all_rounds_gives_the_same_lists(rounds):
    owed, restored = OwedLists(), OwedLists()
    for steps in rounds:
        _apply(owed, steps)
        restored.load_records(owed.dirty_records())
        owed.commit()
    assert dict(everything(restored)) == dict(everything(owed))
    again = OwedLists()
    again.load_records(owed.snapshot())
    assert everything(again) == everything(owed)


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
