"""The board: its union against plain sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import Answers
from recsys.board import Board

ANSWERS = st.lists(
    st.dictionaries(
        st.integers(0, 19),
        st.sampled_from([0.5, 1.0, 1.5, 2.0, 0.0, -1.0, float("nan"), float("inf")]),
        max_size=15,
    ),
    min_size=1,
    max_size=4,
)


def union_of(board, usable, packed, limit):
    """The board's union of one list."""
    board.open(usable[None], np.array([limit]))
    for column, answer in enumerate(packed):
        board.put(column, Answers.of([answer]))
    return board.unions().to(0)


@given(answers=ANSWERS, barred=st.sets(st.integers(0, 19)), limit=st.integers(1, 6))
@settings(deadline=None)
def test_the_union_equals_plain_sets(answers, barred, limit):
    usable = np.array([slot not in barred for slot in range(20)])
    packed = [
        (np.array(list(said), np.int32), np.array(list(said.values()), np.float32))
        for said in answers
    ]
    board = Board([1.0] * len(packed))
    for _ in range(2):  # nothing stays of the list before
        joined = union_of(board, usable, packed, limit)
    assert len(set(joined.items.tolist())) == len(joined)
    for s, said in enumerate(answers):
        good = {
            slot: score for slot, score in said.items() if usable[slot] and 0 < score < float("inf")
        }
        heard = {slot: score for slot, score in said.items() if 0 < score < float("inf")}
        mine = {
            slot for slot, bits in zip(joined.items.tolist(), joined.found.tolist(), strict=True)
            if bits >> s & 1
        }  # fmt: skip
        assert len(mine) == min(limit, len(good))
        if mine and len(good) > limit:
            rest = [score for slot, score in good.items() if slot not in mine]
            assert min(good[slot] for slot in mine) >= max(rest)
        assert mine <= set(good)
        for at, slot in enumerate(joined.items.tolist()):
            assert joined.scores[at, s] == pytest.approx(heard.get(slot, 0.0))
    assert (joined.found > 0).all()


@given(lists=st.lists(ANSWERS, min_size=1, max_size=4), limit=st.integers(1, 6))
@settings(deadline=None)
def test_lists_in_company_are_the_lists_alone(lists, limit):
    sources = max(map(len, lists))
    packed = [
        [
            (np.array(list(said), np.int32), np.array(list(said.values()), np.float32))
            for said in [*answers, *[{}] * (sources - len(answers))]
        ]
        for answers in lists
    ]
    board = Board([1.0] * sources)
    usable = np.ones((len(lists), 20), np.bool_)
    board.open(usable, np.full(len(lists), limit))
    for column in range(sources):
        board.put(column, Answers.of([each[column] for each in packed]))
    together = board.unions()
    for number, each in enumerate(packed):
        alone, found = union_of(board, usable[number], each, limit), together.to(number)
        np.testing.assert_array_equal(found.items, alone.items)
        np.testing.assert_array_equal(found.scores, alone.scores)
        np.testing.assert_array_equal(found.found, alone.found)


def test_a_share_is_a_part_of_the_places_and_the_rest_still_describes():
    board = Board([1.0, 0.5])
    first = np.array([0], np.int32), np.ones(1, np.float32)
    second = np.arange(6, dtype=np.int32), np.arange(6, 0, -1).astype(np.float32)
    joined = union_of(board, np.ones(6, np.bool_), [first, second], 4)
    assert sorted(joined.items.tolist()) == [0, 1]
    assert joined.found.tolist() == [3, 2]
