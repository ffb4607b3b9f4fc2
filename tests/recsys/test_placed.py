"""What a list holds beside its ranking: what rules put there, and new items that are tried out."""

import os
from collections import Counter

import numpy as np
import pytest

from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig
from recsys.rules import Rule, Rules, RulesError
from recsys.variants import Variant, Variants
from streams.events import Product
from tests.recsys.logs import START_S, Event, World

NOW_S = START_S + 100_000


def shop(config=None, new=0):
    """Twelve items that users take in turn, and new ones that nobody has seen."""
    world = World(config)
    for n in range(12):
        world.catalogue.put(
            Product(item_id=f"i{n}", category="ab"[n % 2], brand="xy"[n // 6], price=1.5 + n)
        )
    world.learn([Event(f"u{n}", f"i{n % 12}", "view", START_S + n) for n in range(240)])
    for n in range(new):
        world.catalogue.put(Product(item_id=f"new{n}", category="c", price=100.0))
    return world


def ids(world, ranked):
    return [line.item_id for line in world.pipeline.explain(ranked)]


def lists(world, times, user="u1", k=5):
    return [world.recommend(user, NOW_S + n, k) for n in range(times)]


def test_propensities_are_how_often_items_are_shown():
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True, explore_share=0.3)), new=9)
    count = 4_000
    shown, told = Counter(), {}
    greedy = world.pipeline.policy(world.users, world.users.find("u1"), NOW_S * 1000, 5)
    for ranked in lists(world, count):
        assert ranked.propensity[:4].tolist() == [1.0] * 4
        last = int(ranked.items[4])
        shown[last] += 1
        told[last] = float(ranked.propensity[4])
    pool = {world.items.find(f"new{n}") for n in range(9)}
    assert len(greedy.exploration.pool) > 1
    assert set(told) == set(greedy.exploration.pool.tolist()) | {int(greedy.ranked.items[4])}
    assert set(told) <= pool | {int(greedy.ranked.items[4])}
    assert sum(told.values()) == pytest.approx(1.0)
    for item, propensity in told.items():
        error = np.sqrt(propensity * (1 - propensity) / count)
        assert abs(shown[item] / count - propensity) < 4 * error
        assert greedy.probability(4, item) == pytest.approx(propensity)
        assert greedy.probability(3, item) == 0.0


def test_what_was_tried_out_says_so_and_comes_again_for_the_same_moment():
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True, explore_share=1.0)), new=9)
    ranked = world.recommend("u1", NOW_S, 5)
    line = world.pipeline.explain(ranked)[-1]
    assert line.item_id.startswith("new")
    assert line.sources == ["explore"]
    assert 0 < line.propensity <= 1
    assert ids(world, world.recommend("u1", NOW_S, 5))[-1] == line.item_id
    assert len({ids(world, each)[-1] for each in lists(world, 40)}) > 1


def test_without_a_share_nothing_is_tried_out():
    ranked = shop().recommend("u1", NOW_S, 5)
    assert (ranked.propensity == 1.0).all()


def test_rules_exclude_include_and_boost():
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True)))
    plain = ids(world, world.recommend("u1", NOW_S, 5))
    world.pipeline.rules = Rules([Rule(name="no", action="exclude", items=[plain[0]])])
    without = ids(world, world.recommend("u1", NOW_S, 5))
    assert plain[0] not in without
    assert world.pipeline.rules.reason(world.catalogue, world.items.find(plain[0])) == "no"
    world.pipeline.rules = Rules(
        [Rule(name="dear", action="include", brands=["x"], price_min=5.0, places=2)]
    )
    lines = world.pipeline.explain(world.recommend("u1", NOW_S, 5))
    wanted = {"i4", "i5"}
    assert wanted <= {line.item_id for line in lines}
    put = [line for line in lines if line.sources == ["rule"]]
    assert {line.item_id for line in put} == wanted - set(plain) != set()
    others = [item for item in plain if item not in wanted]
    assert [line.item_id for line in lines if line.item_id not in wanted] == others[:3]
    world.pipeline.rules = Rules([Rule(name="x", action="boost", items=[plain[4]], factor=1000.0)])
    assert ids(world, world.recommend("u1", NOW_S, 5))[0] == plain[4]


def test_a_rule_does_not_bring_what_the_user_may_not_have():
    world = shop(new=2)  # lists hold nothing the user had
    world.catalogue.put(Product(item_id="new0", category="c", available=False))
    world.pipeline.rules = Rules(
        [Rule(name="in", action="include", items=["new0", "i1"], places=2)]
    )
    listed = ids(world, world.recommend("u1", NOW_S, 5))
    assert not {"new0", "i1"} & set(listed)


def test_rules_are_read_anew_without_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.rules.LOOK_EVERY_S", 0.0)
    file = tmp_path / "rules.toml"
    file.write_text("")
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True)))
    world.pipeline.rules = Rules(file=file)
    first = ids(world, world.recommend("u1", NOW_S, 5))[0]

    def write(text):
        file.write_text(text)
        os.utime(file, ns=(1, len(text)))

    write(f'[[rule]]\nname = "out"\naction = "exclude"\nitems = ["{first}"]\n')
    assert first not in ids(world, world.recommend("u1", NOW_S, 5))
    write("[[rule]]\nnonsense")  # stays as it was
    assert first not in ids(world, world.recommend("u1", NOW_S, 5))
    file.unlink()
    refusals = []
    monkeypatch.setattr("recsys.rules.log.warning", lambda *told, **_: refusals.append(told))
    for _ in range(3):
        assert first not in ids(world, world.recommend("u1", NOW_S, 5))
    assert len(refusals) == 1, "told once"
    write("")
    assert ids(world, world.recommend("u1", NOW_S, 5))[0] == first


@pytest.mark.parametrize(
    "text",
    [
        "[[rule]]",
        '[[rule]]\nname="all"\naction="exclude"',
        '[[rule]]\nname="a"\naction="boost"\nfactor=-1',
        "x = 1",
        "= =",
    ],
)
def test_wrong_rules_are_refused(tmp_path, text):
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(RulesError, match=r"rules\.toml"):
        Rules(file=file)
    with pytest.raises(RulesError, match="No such file"):
        Rules(file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("cap", "value_of"),
    [
        ("category_share_max", lambda c, s: c.category[s]),
        ("brand_share_max", lambda c, s: c.brand[s]),
        ("price_band_share_max", lambda c, s: int(np.log2(c.price[s]))),
    ],
)
def test_caps_hold_for_each_group(cap, value_of):
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True, **{cap: 0.5})))
    ranked = world.recommend("u1", NOW_S, 4)
    held = Counter(int(value_of(world.catalogue, slot)) for slot in ranked.items)
    assert max(held.values()) <= 2


def test_users_are_split_by_a_stable_hash():
    explore = RerankConfig(explore_share=0.5)
    variants = Variants(RerankConfig(), [Variant("a", 0.25, explore), Variant("b", 0.5, explore)])
    names = {f"u{n}": variants.of(f"u{n}").name for n in range(8_000)}
    held = Counter(names.values())
    for name, share in (("a", 0.25), ("b", 0.5), ("default", 0.25)):
        assert held[name] / 8_000 == pytest.approx(share, abs=0.02)
    again = Variants(RerankConfig(), [Variant("a", 0.25, explore), Variant("b", 0.5, explore)])
    assert all(again.of(user).name == name for user, name in names.items())
    for wrong in ([Variant("a", 0.7, explore), Variant("b", 0.5, explore)],
                  [Variant("a", 0.1, explore), Variant("a", 0.1, explore)],
                  [Variant("a", -0.1, explore)]):  # fmt: skip
        with pytest.raises(ValueError, match=r"share|names"):
            Variants(RerankConfig(), wrong)


def test_every_list_names_its_variant():
    other = Variant("other", 0.5, RerankConfig(repeats=True, explore_share=1.0))
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True), variants=(other,)), new=9)
    seen = Counter()
    for n in range(40):
        ranked = world.recommend(f"u{n}", NOW_S, 5)
        assert ranked.variant == world.pipeline.variants.of(f"u{n}").name
        tried = any(line.sources == ["explore"] for line in world.pipeline.explain(ranked))
        assert tried == (ranked.variant == "other")
        seen[ranked.variant] += 1
    assert set(seen) == {"other", "default"}
    assert world.recommend("nobody", NOW_S, 5).variant == "default"


@pytest.mark.parametrize("how", ["explored", "included", "filled"])
def test_what_is_listed_after_a_list_was_asked_for_is_not_in_it(how):
    share = 1.0 if how == "explored" else 0.0
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True, explore_share=share)), new=1)
    if how == "included":
        rule = Rule(name="new", action="include", categories=["c"])
        world.pipeline.rules = Rules([rule])
    size = 20 if how == "filled" else 5
    slot = world.users.find("u1")
    asked = world.pipeline.ask(world.users, [slot], [NOW_S * 1000], size)
    later = world.catalogue.put(Product(item_id="later", category="c"))
    world.pipeline.vectors.twins.unite(world.items.find("i1"), np.array([later], np.int32))
    (ranked,) = world.pipeline.answer(world.users, asked)
    listed = ids(world, ranked)
    assert "new0" in listed
    assert "later" not in listed


def test_no_twin_of_what_is_listed_is_explored():
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True, explore_share=1.0)), new=9)
    twins, user = world.pipeline.vectors.twins, world.users.find("u1")
    listed = world.pipeline.policy(world.users, user, NOW_S * 1000, 5).ranked.items
    for at, item in enumerate(listed.tolist()):
        twins.unite(item, np.array([world.items.find(f"new{at}")], np.int32))
    policy = world.pipeline.policy(world.users, user, NOW_S * 1000, 5)
    assert policy.ranked.items.tolist() == listed.tolist()
    pool = {world.items.ids.names[slot] for slot in policy.exploration.pool.tolist()}
    assert pool == {f"new{n}" for n in range(4, 9)}  # new4 may come: its twin is what gives way


def test_what_a_rule_brings_takes_its_twins_place():
    world = shop(PipelineConfig(rerank=RerankConfig(repeats=True)), new=2)
    plain = ids(world, world.recommend("u1", NOW_S, 5))
    twin = np.array([world.items.find("new0")], np.int32)
    world.pipeline.vectors.twins.unite(world.items.find(plain[1]), twin)
    rule = Rule(name="new", action="include", categories=["c"], places=2)
    world.pipeline.rules = Rules([rule])
    listed = ids(world, world.recommend("u1", NOW_S, 5))
    assert listed == [plain[0], "new0", *plain[2:4], "new1"]
    world.pipeline.vectors.twins.unite(world.items.find("new1"), twin)
    listed = ids(world, world.recommend("u1", NOW_S, 5))
    assert len({"new0", "new1", plain[1]} & set(listed)) == 1
