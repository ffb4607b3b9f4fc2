"""Candidates: the union against plain sets, the sources, plug-ins."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import candidates
from recsys.candidates import Source, Union, UnknownSourceError, built_in, choose_sources
from recsys.pipeline import Pipeline, PipelineConfig
from streams.events import Product
from tests.recsys.logs import START_S, Event, World, seeded_log

ANSWERS = st.lists(
    st.dictionaries(
        st.integers(0, 19),
        st.sampled_from([0.5, 1.0, 1.5, 2.0, 0.0, -1.0, float("nan"), float("inf")]),
        max_size=15,
    ),
    min_size=1,
    max_size=4,
)


@given(answers=ANSWERS, barred=st.sets(st.integers(0, 19)), limit=st.integers(1, 6))
@settings(deadline=None)
def test_the_union_equals_plain_sets(answers, barred, limit):
    usable = np.array([slot not in barred for slot in range(20)])
    packed = [
        (np.array(list(said), np.int32), np.array(list(said.values()), np.float32))
        for said in answers
    ]
    joined = Union([object()] * len(packed)).join(packed, usable, limit)
    assert len(set(joined.items.tolist())) == len(joined)
    for s, said in enumerate(answers):
        good = {
            slot: score for slot, score in said.items() if usable[slot] and 0 < score < float("inf")
        }
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
            assert joined.scores[at, s] == pytest.approx(good.get(slot, 0.0))
    assert (joined.found > 0).all()


def test_every_built_in_source_is_one():
    world = World()
    for name, source in built_in(world.items, world.pipeline.vectors).items():
        assert isinstance(source, Source)
        assert source.name == name


def test_sources_are_chosen_by_name():
    world = World()
    chosen = choose_sources(("newest", "popularity"), world.items, world.pipeline.vectors)
    assert [source.name for source in chosen] == ["newest", "popularity"]
    with pytest.raises(UnknownSourceError, match="nonsense"):
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
