"""What another pipeline would have earned, from lists whose true answers are all known.

Answers of a replayed log do not depend on the lists, so a pipeline's own lists over the same log
tell the truth that the estimates must hold.
"""

import gzip
import json

import msgspec
import numpy as np
import pytest

from models.offpolicy import ips
from recsys import counterfactual
from recsys.evaluation_log import answers_of, build
from recsys.evaluation_methods import evaluate
from recsys.evaluation_variants import Entry, ListLog, Split, compared
from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig
from streams.events import BehaviourEvent, Product, RankedItem, RankedList, Trigger

DAY_MS = 86_400_000
START_MS = 1_600_000_000_000
RARE = 10**6  # every item counts as rare: the draw is among all of the newest products


def event(user, item, at_ms, kind="purchase"):
    return BehaviourEvent(user_id=user, item_id=item, type=kind, timestamp=START_MS + at_ms)


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    events = [
        event(f"u{rng.integers(0, 60)}", f"i{min(rng.geometric(0.05), 40)}", n * 60_000)
        for n in range(2_500)
    ]
    return build(events, products=[Product(item_id=f"i{n}") for n in range(41)])


def entry(name, share):
    rerank = RerankConfig(repeats=True, explore_share=share, fresh_events=RARE)
    return Entry(f"recsys:{name}", name, PipelineConfig(rerank=rerank))


def lists_of(log, path, logged):
    """A pipeline's own lists over the log, as it would have shown them."""
    shown = ListLog(path, [logged], log.digest)
    evaluate(logged.method, log, repeats=True, warm_up=0.2, config=logged.config, k=5,
             keep=shown.of(logged))  # fmt: skip
    shown.close()
    return counterfactual.read_lists(path)


def earned(log, lists):
    decisions = counterfactual.shown(log, lists, DAY_MS)
    return np.array(decisions.rewards), decisions


def test_estimates_hold_what_the_other_pipeline_really_earns(log, tmp_path):
    logged, greedy, wild = entry("half", 0.5), entry("greedy", 0.0), entry("wild", 1.0)
    lists = lists_of(log, tmp_path / "half.jsonl", logged)
    rewards, decisions = earned(log, lists)
    found = {}
    for other in (logged, greedy, wild):
        own, _ = earned(log, lists_of(log, tmp_path / f"{other.name}.jsonl", other))
        told = counterfactual.estimates(log, lists, decisions, other.config)
        for way in ("ips", "snips", "dr"):
            half = (told[way]["high"] - told[way]["low"]) / 2
            assert abs(told[way]["value"] - own.mean()) < 1.6 * half, (other.name, way)
            assert half < 0.2 * own.mean()
        assert told["support"] == pytest.approx(1.0, abs=0.05)
        found[other.name] = told["dr"]["value"]
    assert found["greedy"] > found["half"] > found["wild"]
    on_its_own_lists = counterfactual.estimates(log, lists, decisions, logged.config)
    assert on_its_own_lists["ips"]["value"] == pytest.approx(rewards.mean())


def test_what_could_not_be_shown_is_told_as_missing_support(log, tmp_path):
    lists = lists_of(log, tmp_path / "lists.jsonl", entry("greedy", 0.0))
    _, decisions = earned(log, lists)
    assert set(decisions.propensities) == {1.0}
    told = counterfactual.estimates(log, lists, decisions, entry("wild", 1.0).config)
    assert told["support"] == pytest.approx(0.8, abs=0.01)  # four of five places


def ranked(user, at_ms, items, kind="event"):
    return RankedList(
        list_id=f"{user}{at_ms}", user_id=user,
        trigger=Trigger(kind=kind, topic="t", partition=0, offset=at_ms),
        items=[RankedItem(item_id=item, score=1, rank=1, sources=[], reason="") for item in items],
        model_version="m", variant="v", event_time=START_MS + at_ms, produced_time=0,
    )  # fmt: skip


def test_an_answer_belongs_to_the_list_before_it():
    log = build([event("u", "a", 0), event("u", "b", 1000), event("u", "a", 2000),
                 event("u", "c", 2000 + DAY_MS), event("u", "b", 3000, "return")])  # fmt: skip
    after = [ranked("u", at, "abc") for at in (0, 1000, 2000)]
    assert counterfactual.shown(log, after, DAY_MS).rewards == [0, 1, 0, 1, 0, 0, 0, 0, 1]
    assert counterfactual.shown(log, after, DAY_MS - 1).rewards == [0, 1, 0, 1, 0, 0, 0, 0, 0]
    before = [ranked("u", at, "abc", "request") for at in (0, 1000, 2000)]
    assert counterfactual.shown(log, before, DAY_MS).rewards == [1, 0, 0, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("kind", ["request", "upload"])
def test_what_triggers_the_next_list_belongs_to_the_one_it_was_taken_from(kind):
    log = build([event("u", "a", 0), event("u", "b", 1000), event("u", "c", 2000)])
    asked, answer = ranked("u", 500, "abc", kind), ranked("u", 1000, "abc")
    assert counterfactual.shown(log, [asked, answer], DAY_MS).rewards == [0, 1, 0, 0, 0, 1]
    at_once = ranked("u", 1000, "abc", kind)
    assert counterfactual.shown(log, [at_once, answer], DAY_MS).rewards == [0, 1, 0, 0, 0, 1]
    # and the other way round: what comes with a request is taken from the list that it brings
    assert counterfactual.shown(log, [ranked("u", 0, "abc"), at_once], DAY_MS).rewards == [
        0, 0, 0, 0, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("taken", ["a", "z"])
def test_lists_of_one_user_leave_no_interval(taken):
    log = build([event("u", "a", 0), event("u", "b", 1), event("u", taken, 2000)])
    lists = [ranked("u", 1000, "z")] if taken == "z" else [ranked("u", 1000, "ab")]
    decisions = counterfactual.shown(log, lists, DAY_MS)
    told = counterfactual.estimates(log, lists, decisions, entry("greedy", 0.0).config)
    json.dumps(told, allow_nan=False)
    for way in ("ips", "snips", "dr"):
        assert (told[way]["low"], told[way]["high"]) == (None, None)


def test_broken_lists_are_named(tmp_path):
    file = tmp_path / "lists.jsonl"
    file.write_text("{}\n")
    with pytest.raises(counterfactual.ListsError, match="line 1"):
        counterfactual.read_lists(file)
    file.write_text("")
    with pytest.raises(counterfactual.ListsError, match="no lists"):
        counterfactual.read_lists(file)


def test_lists_that_say_nothing_are_named(log, tmp_path):
    file = tmp_path / "lists.jsonl"
    for items, propensity, told in ((["a"], 0.0, "line 1: a was shown"), ([], 1.0, "no lists, or")):
        each = ranked("u", 0, items)
        for item in each.items:
            item.propensity = propensity
        file.write_bytes(msgspec.json.encode(each))
        with pytest.raises(counterfactual.ListsError, match=told):
            counterfactual.read_lists(file)
    with pytest.raises(counterfactual.ListsError, match="of a user of the log"):
        counterfactual.shown(log, [ranked("nobody", 0, ["a"])], DAY_MS)


def test_lists_may_be_packed_and_end_in_an_empty_line(tmp_path):
    file = tmp_path / "lists.jsonl.gz"
    with gzip.open(file, "wb") as packed:
        packed.write(msgspec.json.encode(ranked("u", 0, ["a"])) + b"\n\n")
    assert [each.user_id for each in counterfactual.read_lists(file)] == ["u"]


def test_grouped_decisions_count_as_many_as_there_are_groups():
    rng = np.random.default_rng(0)
    one = rng.random(500)
    sure = np.ones(500)
    alone = ips(one, sure, sure)
    same = np.repeat(one, 4)
    four = np.ones(2_000)
    groups = np.repeat(np.arange(500), 4)
    assert ips(same, four, four).standard_error < 0.6 * alone.standard_error
    grouped = ips(same, four, four, groups=groups)
    assert grouped.standard_error == pytest.approx(alone.standard_error)


def test_variants_over_all_users_and_over_their_own(log):
    found = [entry("one", 0.0), entry("two", 1.0)]
    answers = answers_of(log, True, 0.2)
    outcomes = {
        each.method: evaluate(each.method, log, repeats=True, warm_up=0.2, config=each.config)
        for each in found
    }
    first, second = compared(log, answers, outcomes, found, 10)
    assert first["difference"] == 0.0
    assert second["difference"] == pytest.approx(second["ndcg@10"] - first["ndcg@10"])
    assert first["own_users"] + second["own_users"] == len(log.user_ids)
    assert first["own_answers"] + second["own_answers"] == len(answers)
    assert min(first["own_users"], second["own_users"]) > 10
    assert [Split(found).of(f"u{n}") for n in range(9)] == [
        Split(found).of(f"u{n}") for n in range(9)
    ]
