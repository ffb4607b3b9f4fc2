"""Looks: candidates before steps are scored once, and never without need."""

import numpy as np
import pytest

from recsys.pipeline import PipelineConfig
from recsys.rank import RankConfig
from recsys.scorer import Scorer
from tests.recsys.logs import START_S, Event, World, batch_of, seeded_log

NOW_MS = (START_S + 50_000) * 1000
ALL_SAMPLED = PipelineConfig(rank=RankConfig(train_lists_full=10**9, train_looks_full=10**9))


@pytest.fixture
def world():
    world = World(ALL_SAMPLED)
    world.learn(seeded_log(300))
    return world


@pytest.fixture
def scored(monkeypatch):
    """How many lists are scored, call by call."""
    counts = []
    score = Scorer.score_part

    def noted(self, contexts):
        counts.append(len(contexts))
        return score(self, contexts)

    monkeypatch.setattr(Scorer, "score_part", noted)
    return counts


def look(world, name="u3", then_ms=NOW_MS):
    (found,) = world.pipeline.looks.before_steps(world.users, [world.users.find(name)], [then_ms])
    return found


def test_a_list_since_the_last_event_need_not_be_made_twice(world):
    world.recommend("u3", START_S + 50_000)
    made = look(world)
    assert made.scored is not None
    assert look(world, then_ms=NOW_MS + 60_000) is made
    world.learn([Event("u3", "i1", "purchase", START_S + 50_000)])
    anew = look(world)
    assert anew.scored is None
    world.pipeline.looks.settle()
    assert anew.scored is not None
    assert anew is not made


def test_a_list_that_is_asked_for_and_sampled_is_scored_once(world, scored):
    # Each user comes twice: the second event's look is the list after the first, still unmade.
    log = [Event(f"u{n % 5}", f"i{n}", "purchase", START_S + 9000 + n) for n in range(10)]
    want = np.arange(10) < 5
    updates, lists = world.pipeline.learn_and_recommend(
        world.users, batch_of(world.users, log), want
    )
    assert sum(ranked is not None for ranked in lists) == 5
    assert len(updates.examples) == 10
    assert scored == [5 + 5]  # the lists, and behind them the looks before the first events


def test_looks_that_have_no_room_beside_the_lists_are_scored_by_themselves(world, scored):
    log = [Event(f"u{n}", f"i{n}", "purchase", START_S + 9000 + n) for n in range(20)]
    updates, _ = world.pipeline.learn_and_recommend(
        world.users, batch_of(world.users, log), np.ones(20, np.bool_)
    )
    assert scored == [20, 20]
    assert len(updates.examples) == 20


def test_examples_are_those_of_lists_made_one_by_one():
    log = [Event(f"u{n % 5}", f"i{n}", "purchase", START_S + 9000 + n) for n in range(40)]
    found = []
    for size in (1, 3, 40):
        world = World(ALL_SAMPLED)
        world.learn(seeded_log(300))
        examples = []
        for at in range(0, len(log), size):
            batch = batch_of(world.users, log[at : at + size])
            want = np.ones(len(batch), np.bool_)
            updates, _ = world.pipeline.learn_and_recommend(world.users, batch, want)
            examples += updates.examples
        found.append(examples)
    assert len(found[0]) == 40
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one.features, other.features)
            np.testing.assert_array_equal(one.chosen, other.chosen)


def test_a_chunk_that_came_to_nothing_leaves_no_look(world, monkeypatch):
    log = [Event(f"u{n}", "i1", "purchase", START_S + 9000 + n) for n in range(3)]
    batch, want = batch_of(world.users, log), np.ones(3, np.bool_)

    def fails(*_):
        raise RuntimeError("no list today")

    world.users.begin()
    with monkeypatch.context() as failing:
        failing.setattr(world.pipeline, "answer", fails)
        with pytest.raises(RuntimeError, match="today"):
            world.pipeline.learn_and_recommend(world.users, batch, want)
    world.users.rollback()
    assert world.pipeline.looks.unscored == 0
    world.users.begin()
    updates, _ = world.pipeline.learn_and_recommend(world.users, batch, want)
    world.users.commit()
    assert len(updates.examples) == 3


def test_the_oldest_lists_are_forgotten(world, monkeypatch):
    monkeypatch.setattr("recsys.looks.NEWEST_LISTS", 3)
    for n in range(4):
        world.recommend(f"u{n}", START_S + 50_000)
    assert [look(world, f"u{n}").scored is None for n in range(4)] == [True, False, False, False]


def test_many_looks_are_scored_together(world, scored):
    users = [world.users.find(f"u{n % 20}") for n in range(40)]
    looks = world.pipeline.looks.before_steps(world.users, users, [NOW_MS] * 40)
    assert scored == [40]
    assert all(each.scored is not None for each in looks)
