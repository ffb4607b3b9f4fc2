"""What is asked for: users as they are, and several questions as one."""

import numpy as np

from models.columns import NONE
from recsys.asked import Asked, moments
from recsys.photos import Photo
from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig
from recsys.variants import Variant
from streams.events import RecommendationRequest
from tests.recsys.logs import START_S, Event, World, seeded_log

NOW_MS = (START_S + 10**6) * 1000


def test_a_moment_ends_with_the_users_next_event():
    world = World()
    world.learn(seeded_log(100))
    slots = [world.users.find("u1"), NONE, world.users.find("u2")]
    before = moments(world.users, slots)
    assert before == moments(world.users, slots)
    assert len(set(before)) == 3
    world.learn([Event("u1", "i1", "view", START_S)])
    after = moments(world.users, slots)
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True]
    other = World()
    other.learn(seeded_log(100))
    assert not set(before) & set(moments(other.users, slots))


def test_the_ranker_learns_from_no_question_and_no_photo():
    world = World()
    world.learn(seeded_log(100))
    slots = [world.users.find("u1"), world.users.find("u2")]
    photo = Photo("x", NOW_MS, 1, np.ones(2, np.float32))
    asked = world.pipeline.ask(world.users, slots, [NOW_MS] * 2, 5, [None, photo])
    assert [moment is None for moment in asked.moments] == [False, True]
    request = RecommendationRequest(user_id="u1", request_id="r")
    asked = world.pipeline.ask(world.users, slots, [NOW_MS] * 2, 5, request=request)
    assert asked.moments == [None, None]


def test_several_questions_give_the_lists_of_each():
    spread = Variant("spread", 0.5, RerankConfig(diversity=0.5, explore_share=0.5))
    world = World(PipelineConfig(variants=(spread,)))
    world.learn(seeded_log(400))
    slots = [world.users.find(f"u{n}") for n in range(9)] + [NONE]
    times_ms = [NOW_MS + n for n in range(10)]
    parts = [
        world.pipeline.ask(world.users, slots[some], times_ms[some], 7)
        for some in (slice(0, 1), slice(1, 6), slice(6, 10))
    ]
    together = Asked.joined(parts)
    assert len(together) == 10
    assert [together.key(n) for n in (0, 9)] == [f"u0/{NOW_MS}", f"/{NOW_MS + 9}"]
    lists = world.pipeline.answer(world.users, together)
    alone = [ranked for part in parts for ranked in world.pipeline.answer(world.users, part)]
    assert {ranked.variant for ranked in lists} == {"default", "spread"}
    for one, other in zip(lists, alone, strict=True):
        assert one.variant == other.variant
        for name in ("items", "scores", "found", "lead", "carriers", "propensity"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_nothing_asked_is_answered_by_nothing():
    world = World()
    assert world.pipeline.answer(world.users, world.pipeline.ask(world.users, [], [])) == []
