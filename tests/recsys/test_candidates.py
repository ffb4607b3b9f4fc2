"""Candidates: the sources, what they say together and alone, plug-ins."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from recsys import candidates
from recsys.board import Board
from recsys.candidates import UnknownSourceError, built_in, choose_sources
from recsys.contexts import Contexts
from recsys.pipeline import Pipeline, PipelineConfig
from recsys.speakers import Alone, Source, Together, speakers_of
from streams.events import Product
from tests.recsys.logs import START_S, Event, World, seeded_log


def test_every_built_in_source_is_one():
    world = World()
    for name, source in built_in(world.items, world.pipeline.vectors).items():
        assert isinstance(source, Source)
        assert source.name == name


def test_sources_are_chosen_by_name():
    world = World()
    chosen = choose_sources(("newest", "popularity"), world.items, world.pipeline.vectors)
    assert [source.name for source in chosen] == ["newest", "popularity"]
    with pytest.raises(UnknownSourceError, match=r"rank\.sources .*'nonsense'"):
        choose_sources(("nonsense",), world.items, world.pipeline.vectors)


class Staff:
    """A source of somebody else's package."""

    name = "staff-picks"
    reason = "our staff likes it"

    def candidates(self, context):
        return np.array([context.items.find("i3")], np.int32), np.ones(1, np.float32)


def test_a_package_adds_a_source_by_entry_point(monkeypatch):
    point = EntryPoint("staff-picks", "tests.recsys.test_candidates:Staff", "recsys.candidates")
    monkeypatch.setattr(candidates, "entry_points", lambda group: [point])
    world = World(PipelineConfig(sources=("staff-picks",)))
    world.learn(seeded_log(50))
    line = world.pipeline.explain(world.recommend("nobody", k=1))[0]
    assert (line.item_id, line.sources, line.reason) == (
        "i3", ["staff-picks"], "our staff likes it",
    )  # fmt: skip


def answers_of(world, name, user):
    pipeline = Pipeline(PipelineConfig(sources=(name,)), world.items, world.catalogue)
    ranked = pipeline.recommend(world.users, world.users.find(user), START_S * 1000 + 10**9, 5)
    return [
        world.items.ids.names[slot]
        for slot, lead in zip(ranked.items.tolist(), ranked.lead.tolist(), strict=True)
        if lead >= 0
    ]


def test_category_brings_what_nobody_has_touched():
    world = World()
    for n in range(6):
        world.catalogue.put(Product(item_id=f"i{n}", category="odd" if n % 2 else "even"))
    world.learn([Event("u", "i1", "purchase", START_S)])
    assert set(answers_of(world, "category", "u")) == {"i3", "i5"}
    assert answers_of(world, "category", "nobody") == []


def test_newest_are_those_few_have_seen():
    world = World()
    for n in range(4):
        world.catalogue.put(Product(item_id=f"i{n}"))
    world.learn([Event(f"u{n}", "i3", "view", START_S + n) for n in range(9)])
    assert answers_of(world, "newest", "nobody") == ["i2", "i1", "i0"]


def test_no_list_depends_on_who_else_asks_for_more():
    world = World()
    world.learn(seeded_log(50))
    for n in range(700):
        world.catalogue.put(Product(item_id=f"new{n}"))
    user, now_ms = world.users.find("u1"), START_S * 1000 + 10**9
    few, many = (world.pipeline.context_for(world.users, user, now_ms, k).alone() for k in (5, 90))
    both = Contexts.joined([few, many])
    for source in world.pipeline.sources:
        answers = [source.candidates(context) for context in (few[0], many[0])]
        if hasattr(source, "candidates_of_all"):
            together = source.candidates_of_all(both)
            for number, (slots, scores) in enumerate(answers):
                np.testing.assert_array_equal(together.to(number)[0], slots)
                np.testing.assert_array_equal(together.to(number)[1], scores)
    newest = next(source for source in world.pipeline.sources if source.name == "newest")
    assert [len(newest.candidates_of_all(both).to(n)[0]) for n in (0, 1)] == [120, 360]


def test_readings_of_the_same_lists_say_together_what_each_says_alone():
    world = World()
    world.learn(seeded_log(400))
    speakers = speakers_of(world.pipeline.sources)
    groups = [speaker for speaker in speakers if isinstance(speaker, Together)]
    assert [len(group.readings) for group in groups] == [6]
    user = world.users.find("u1")
    context = world.pipeline.context_for(world.users, user, START_S * 1000 + 10**9, 5)
    context.query.usable[:] = True
    answers = []
    for made in (
        groups,
        [Alone(r, g.column + n) for g in groups for n, r in enumerate(g.readings)],
    ):
        board = Board([1.0] * len(world.pipeline.sources))
        contexts = context.alone()
        board.open(contexts.usable, np.array([5]))
        for speaker in made:
            speaker.speak(contexts, board)
        answers.append(board.unions().to(0))
    together, alone = answers
    assert len(together) > 5
    np.testing.assert_array_equal(np.sort(together.items), np.sort(alone.items))
    one, two = np.argsort(together.items), np.argsort(alone.items)
    np.testing.assert_allclose(together.scores[one], alone.scores[two], rtol=1e-5)
