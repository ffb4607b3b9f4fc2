"""Baselines that count score what their definitions say, written plainly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines.counted import ItemKnn
from models.baselines.filled import Filled

USERS, ITEMS = 3, 6
STEPS = st.lists(
    st.tuples(
        st.integers(0, USERS - 1), st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=3)
    ),
    max_size=25,
)


def by_definition(steps, user, *, half_life, learn, learn_decay, read, read_decay, powers, both):
    """Every pair with the moment it was counted at; faded when it is read."""
    pairs, counts, histories, clock = [], [], [[] for _ in range(USERS)], 0
    for who, items in steps:
        for item in items:
            for at, other in enumerate(histories[who][:learn]):
                if other != item:
                    pairs.append((other, item, learn_decay**at, clock))
                    if both:
                        pairs.append((item, other, learn_decay**at, clock))
            counts.append((item, clock))
            clock += 1
            histories[who] = [item, *(other for other in histories[who] if other != item)]

    def faded(moment):
        return 2.0 ** ((moment - clock) / half_life)

    def count(item):
        return 0.5 + sum(faded(moment) for which, moment in counts if which == item)

    scores = np.zeros(ITEMS)
    for at, mine in enumerate(histories[user][:read]):
        for item, other, weight, moment in pairs:
            if item == mine:
                share = (
                    weight * faded(moment) / count(mine) ** powers[0] / count(other) ** powers[1]
                )
                scores[other] += read_decay**at * share
    return scores


@pytest.mark.parametrize("both", [0, 1])
@pytest.mark.parametrize("powers", [(0.5, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize("half_life", [0.2, 5.0, 1e12])
@settings(max_examples=30, deadline=None)  # it may compile
@given(steps=STEPS)
def test_item_knn_scores_by_its_definition(steps, half_life, powers, both):
    knn = ItemKnn(
        USERS, ITEMS, half_life_events=half_life, learn_items=3, learn_decay=0.7, read_items=2,
        read_decay=0.6, own_power=powers[0], other_power=powers[1], both_ways=both,
    )  # fmt: skip
    for user, items in steps:
        knn.learn(user, np.array(items, np.int32), 0.0)
    for user in range(USERS):
        want = by_definition(
            steps, user, half_life=half_life, learn=3, learn_decay=0.7, read=2, read_decay=0.6,
            powers=powers, both=both,
        )  # fmt: skip
        assert knn.scores(user, ITEMS, 0.0) == pytest.approx(want, rel=1e-4, abs=1e-9)


class Fixed:
    """A baseline of one answer."""

    def __init__(self, scores):
        self._scores = np.array(scores, np.float32)

    def scores(self, user, known, now_s):
        return self._scores[:known]

    def learn(self, user, items, now_s):
        pass


def test_filled_adds_shares_of_the_best_own_and_of_the_most_popular():
    for own, want in (
        ([0.0, -4.0, 2.0, 0.0], [0.1, -1.0, 0.5, 0.05]),
        ([0.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.05]),
    ):
        filled = Filled(Fixed(own), 5, popular_weight=0.1, popular_half_life_events=1e12)
        filled.learn(0, np.array([0, 3, 0], np.int32), 0.0)
        assert filled.scores(1, 4, 0.0) == pytest.approx(want)
        assert filled.scores(1, 0, 0.0).tolist() == []
    assert Fixed(own).scores(0, 4, 0.0).tolist() == own
