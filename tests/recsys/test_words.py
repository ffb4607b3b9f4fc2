"""Words of products: how many have each, and which of those it remembers."""

import numpy as np
import pytest

from models.columns import NONE
from recsys.words import SHARERS, Words
from streams.events import Product


def remembered(words, word):
    row = words.sharers[words._codes[word]]
    return row[row != NONE].tolist()


def count(words, word):
    return int(words.counts[words._codes[word]])


@pytest.fixture
def words():
    words = Words()
    for slot in range(10):
        words.put(slot, Product(item_id=f"i{slot}", title="walnut table"))
    return words


def test_a_word_counts_those_who_have_it_and_remembers_the_newest(words):
    assert (count(words, "walnut"), remembered(words, "walnut")) == (10, list(range(10)))
    for slot in range(10, SHARERS + 5):
        words.put(slot, Product(item_id=f"i{slot}", title="walnut"))
    assert count(words, "walnut") == SHARERS + 5
    assert sorted(remembered(words, "walnut")) == list(range(5, SHARERS + 5))
    assert count(words, "table") == 10


@pytest.mark.parametrize("gone", [True, False])
def test_one_that_comes_and_goes_is_remembered_once(words, gone):
    for _ in range(SHARERS + 6):
        if gone:
            words.clear(0)
        else:
            words.put(0, Product(item_id="i0", title="table"))
        assert count(words, "walnut") == 9
        assert count(words, "table") == 9 + (not gone)
        words.put(0, Product(item_id="i0", title="walnut table"))
    assert (count(words, "walnut"), remembered(words, "walnut")) == (10, list(range(10)))


def test_one_that_was_forgotten_meanwhile_is_remembered_anew(words):
    words.clear(0)
    for slot in range(10, SHARERS + 10):
        words.put(slot, Product(item_id=f"i{slot}", title="walnut"))
    assert 0 not in remembered(words, "walnut")
    words.put(0, Product(item_id="i0", title="walnut"))
    assert 0 in remembered(words, "walnut")
    assert count(words, "walnut") == SHARERS + 10
    assert (np.array(words.counts) >= 0).all()


def test_words_that_nobody_has_leave_their_place_to_others(words):
    for n in range(1_000):
        words.put(3, Product(item_id="i3", title=f"edition {n} walnut"))
    assert len(words._codes) == len({*words._codes.values()}) == 4  # walnut, table, edition, n
    assert len(words.counts) == 64
    assert (count(words, "walnut"), count(words, "table"), count(words, "999")) == (10, 9, 1)
    assert remembered(words, "999") == [3]
