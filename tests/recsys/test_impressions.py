"""Impressions without an answer: counted a user, answered by what they do, state like any other."""

from dataclasses import replace

import numpy as np

from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig
from recsys.user_lane import UserLane
from tests.recsys.logs import START_S, Event, World, batch_of, seeded_log

REPEATS = RerankConfig(repeats=True)


def shown(item: str, at: int, user: str = "u1") -> Event:
    return Event(user, item, "impression", START_S + 30_000 + at, f"s{item}{at}")


def taught(rerank: RerankConfig = REPEATS) -> World:
    world = World(PipelineConfig(rerank=rerank))
    world.learn(seeded_log(2000))
    return world


def places(world: World, user: str = "u1") -> list[str | None]:
    slot = world.users.find(user)
    ranked = world.pipeline.recommend(world.users, slot, (START_S + 31_000) * 1000, 10)
    return list(world.ids(ranked))


def test_what_is_shown_in_vain_sinks_and_comes_back_when_it_is_taken():
    world = taught()
    first = places(world)[0]
    assert first is not None
    world.learn([shown(first, at) for at in range(10)])
    assert world.users.shown.of(world.users.find("u1")) == [
        (world.items.find(first), 10, START_S + 30_009)
    ]
    sunk = places(world)
    assert first not in sunk[:1]
    assert places(world, "u2") == places(taught(), "u2"), "another user's lists stay"
    world.learn([Event("u1", first, "click", START_S + 30_020, "took")])
    assert world.users.shown.of(world.users.find("u1")) == []


def test_without_a_discount_impressions_change_nothing():
    world = taught(replace(REPEATS, impression_discount=0.0))
    before = places(world)
    world.learn([shown(item, at) for at, item in enumerate(before) if item])
    assert places(world) == before


def test_an_impression_fades_and_the_oldest_gives_way():
    world = taught()
    world.learn([shown(f"i{at}", at) for at in range(40)])
    slot = world.users.find("u1")
    kept = {world.items.ids.names[item] for item, _, _ in world.users.shown.of(slot)}
    assert kept == {f"i{at}" for at in range(8, 40)}
    item = np.array([world.items.find("i39")], np.int32)
    now_s = float(START_S + 30_039)
    assert world.users.shown.unanswered(slot, item, now_s, 100.0).tolist() == [1.0]
    assert world.users.shown.unanswered(slot, item, now_s + 200, 100.0).tolist() == [0.25]


def test_a_round_that_is_taken_back_was_never_shown():
    world = taught()
    world.learn([shown("i1", 0)])
    before, digest = world.users.shown.of(world.users.find("u1")), world.users.digest()
    world.users.begin()
    log = [shown("i1", 1), shown("i2", 2), shown("i3", 3, "u2")]
    world.pipeline.learn(world.users, batch_of(world.users, log))
    assert len(world.users.shown) == 2
    world.users.rollback()
    assert world.users.shown.of(world.users.find("u1")) == before
    assert len(world.users.shown) == 1
    assert world.users.digest() == digest


def test_records_and_snapshots_tell_all_of_it():
    world = taught()
    world.learn([shown("i1", 0), shown("i1", 1), shown("i2", 2, "u3")])
    from_log, from_copy = World(), World()
    from_log.users.load_records(world.users.records())
    from_copy.users.restore(world.users.snapshot())
    for other in (from_log, from_copy):
        assert other.users.digest() == world.users.digest()
        assert len(other.users.shown) == 2


def test_who_is_forgotten_leaves_no_impressions():
    world = taught()
    world.learn([shown("i1", 0)])
    world.users.begin()
    assert world.users.forget("u1", START_S + 40_000)
    tombstones = {key for key, value in world.users.dirty_records() if value is None}
    world.users.commit()
    assert len(world.users.shown) == 0
    assert b"u1\xff\xfb" in tombstones


def test_a_lane_reads_them_back_from_its_log():
    """Several kinds of records share the lane's log, each with an ending of its own."""
    world, other = taught(), World()
    world.learn([shown("i1", 0)])
    UserLane(other.users).load_records(world.users.records())
    assert other.users.digest() == world.users.digest()
    assert len(other.users.shown) == 1
