"""Audiences against their definition, told in plain Python."""

import math

import numpy as np
import pytest

from models.audience import FADING, FEATURES, HELD, READ_ITEMS, STRANGER, Audience, described
from tests.models.logs import item_events, table_of

ITEMS = 30


def taught(count, users, seed):
    """A model that saw random events, and what it should know: item -> {user: place}, in order."""
    rng = np.random.default_rng(seed)
    items = rng.integers(ITEMS, size=count).tolist()
    who = (rng.integers(1, users + 1, size=count) * 2_654_435_761 % 2**32).tolist()
    model = Audience()
    table = table_of(model, ITEMS)
    for start in range(0, count, 7):  # in chunks, as they come
        part = slice(start, start + 7)
        model.learn(table, item_events(items[part], users=who[part]))
    came: dict[int, list[list[int]]] = {item: [] for item in range(ITEMS)}
    number = dict.fromkeys(range(ITEMS), 0)
    for at, (item, user) in enumerate(zip(items, who, strict=True)):
        ring, place = came[item], at % 7  # a chunk's events are numbered from 0 here
        known = next((each for each in ring if each[0] == user), None)
        if known is not None:
            known[1] = place
            continue
        if len(ring) < HELD:
            ring.append([user, place])
        else:
            ring[number[item] % HELD] = [user, place]
        number[item] += 1
    return table, came


def expected(came, item, past, me):
    """FEATURES of an item for a user."""
    voices: dict[int, float] = {}
    places: dict[int, int] = {}
    for n, other in enumerate(past[:READ_ITEMS]):
        for user, place in came[other]:
            if user != me:
                voices[user] = voices.get(user, 0.0) + FADING**n / math.sqrt(1 + len(came[other]))
                places.setdefault(user, place)
    out = [0.0] * len(FEATURES)
    for user, place in came[item]:
        if user in voices:
            voice, gap = voices[user], place - places[user]
            share = 1 / math.sqrt(1 + len(came[item]))
            out[0] += share * voice / (1 + abs(gap))
            out[1] += share * voice
            out[2] = max(out[2], voice / (1 + 0.1 * abs(gap)))
            out[3] += share * voice**2 / (1 + 0.2 * abs(gap))
            out[4] += share * voice / (1 + abs(gap)) if gap > 0 else 0.0
    return out


@pytest.mark.parametrize(("count", "users", "seed"), [(40, 5, 0), (900, 30, 1), (3000, 2000, 2)])
def test_features_are_what_they_say(count, users, seed):
    table, came = taught(count, users, seed)
    rng = np.random.default_rng(seed)
    pasts = [rng.permutation(ITEMS)[:size].astype(np.int32) for size in (20, 0, 3)]
    me = came[int(pasts[0][0])][0][0] if came[int(pasts[0][0])] else 1
    items = np.tile(np.arange(ITEMS, dtype=np.int32), 3)
    out = np.zeros((len(items), len(FEATURES)), np.float32)
    described(
        table, items, np.array([0, ITEMS, 2 * ITEMS, 3 * ITEMS]), np.concatenate(pasts),
        np.array([0, 20, 20, 23]), np.array([me, me, STRANGER], np.uint32), out,
    )  # fmt: skip
    for number, (past, who) in enumerate(zip(pasts, (me, me, STRANGER), strict=True)):
        for item in range(ITEMS):
            wanted = expected(came, item, past.tolist(), who)
            found = out[number * ITEMS + item]
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_newest_stay_and_who_comes_again_moves_on():
    model = Audience()
    table = table_of(model, 2)
    model.learn(table, item_events([0] * (HELD + 2), users=range(1, HELD + 3)))
    assert set(table["user"][0].tolist()) == set(range(3, HELD + 3))
    model.learn(table, item_events([1, 0], users=[5, 5]))
    assert table["came"][0] == HELD + 2
    assert table["place"][0][table["user"][0] == 5].tolist() == [1]


def test_strangers_and_what_is_not_liked_leave_no_trace():
    model = Audience()
    table = table_of(model, 2)
    model.learn(table, item_events([0, 0], weights=[1.0, -1.0], users=[STRANGER, 7]))
    assert table["came"][0] == 0


def test_the_forgotten_are_in_no_audience():
    model = Audience()
    table = table_of(model, 3)
    model.learn(table, item_events([0, 0, 1, 2], users=[7, 8, 7, 8]))
    table.begin()
    model.forget(table, np.array([7, STRANGER], np.uint32))
    assert not (table["user"] == 7).any()
    assert sorted(table.dirty().tolist()) == [0, 1]
    out = np.zeros((1, len(FEATURES)), np.float32)
    described(
        table, np.array([0], np.int32), np.array([0, 1]), np.array([1, 2], np.int32),
        np.array([0, 2]), np.array([STRANGER], np.uint32), out,
    )  # fmt: skip
    assert out[0, 1] > 0  # user 8, but nobody's empty place
    table.rollback()
    assert (table["user"][:, 0] == 7).sum() == 2
