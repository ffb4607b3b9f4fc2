"""One user's past, event by event; the whole is held to plain dictionaries in recsys/test_state."""

import numpy as np
import pytest

from models.columns import Table
from models.history import (
    CONTEXT_SIZE,
    HEAD_COLUMNS,
    ORDERS,
    PAGE_COLUMNS,
    RECENT_SIZE,
    read_history,
)
from recsys.event_batch import TYPE_CODES
from tests.recsys.logs import START_S, Event, World, batch_of


def updates_of(log):
    world = World()
    return world, world.pipeline.learn(world.users, batch_of(world.users, log))


def context_names(world, row):
    return [world.items.ids.names[slot] for slot in row.tolist() if slot >= 0]


def test_context_is_what_went_before_newest_first_with_ages():
    log = [Event("u", item, "purchase", START_S + at) for at, item in enumerate("abcab")]
    world, updates = updates_of(log)
    assert [context_names(world, row) for row in updates.context] == [
        [], ["a"], ["b", "a"], ["c", "b"], ["a", "c"],
    ]  # fmt: skip
    assert updates.ages_s[3, :2].tolist() == [1, 2]
    assert updates.is_new.tolist() == [True, True, True, False, False]


def test_context_is_bounded_and_leaves_the_disliked_out():
    log = [Event("u", f"i{n}", "purchase", START_S + n) for n in range(40)]
    log += [Event("u", "i39", "dislike", START_S + 50), Event("u", "x", "view", START_S + 60)]
    log.insert(40, Event("u", "i38", "return", START_S + 45))
    world, updates = updates_of(log)
    last = context_names(world, updates.context[-1])
    assert len(last) == CONTEXT_SIZE
    assert last[0] == "i37"


def test_a_late_event_takes_the_place_of_its_own_time():
    log = [
        Event("u", "a", "purchase", START_S + 10),
        Event("u", "c", "purchase", START_S + 30),
        Event("u", "b", "purchase", START_S + 20),
        Event("u", "c", "purchase", START_S + 5),
        Event("u", "x", "purchase", START_S + 40),
    ]
    world, updates = updates_of(log)
    assert context_names(world, updates.context[-1]) == ["c", "b", "a"]
    assert updates.ages_s[2, 0] == 0  # it happened before what it is told to follow


def test_a_head_may_be_read_before_its_pages():
    heads, pages = Table(HEAD_COLUMNS), Table(PAGE_COLUMNS)
    slot = heads.allocate()
    heads["entries"][slot] = 20
    heads["recent"][slot, :2] = [19, 3]
    room = [np.empty(64, dtype) for dtype in ("i4", "u4", "u4", "u2", "f4", "u2")]
    recent = np.empty(RECENT_SIZE, np.int32)
    assert read_history(slot, heads.rows, pages.rows, *room, recent) == (0, 0)


FUNNEL = ("view", "click", "cart", "purchase")


@pytest.mark.parametrize(
    ("kinds", "weight"),
    [
        (("view", "cart", "purchase", "return"), -1.0),
        ((*FUNNEL, "view", "view", "return"), -1.0),
        (("view",) * 9 + ("dislike",), -1.0),
        (("dislike", "dislike", "view"), -0.75),
        (("purchase", "return", "purchase"), 1.0),
        (("view", "purchase", "return", "view", "view", "view", "view"), 0.25),
        (("purchase", "purchase", "purchase", "return"), 2.0),
        (("purchase", "purchase", "return", "return"), -1.0),
        (("view", "purchase", "purchase", "return"), -1.0),
        (("return",), -1.0),
    ],
)
def test_what_is_given_back_or_disliked_takes_back_what_was_said(kinds, weight):
    world = World()
    world.learn([Event("u", "i", kind, START_S + n) for n, kind in enumerate(kinds)])
    assert world.users.history(world.users.find("u")).weights == pytest.approx(weight, abs=0.03)


def test_orders_are_purchases_and_returns():
    assert 1 << TYPE_CODES["purchase"] | 1 << TYPE_CODES["return"] == ORDERS
