"""The instrument: steps, answers, and what must not leak into a list."""

import json
from collections import Counter

import numpy as np
import pytest
from implicit.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from models.baselines.counted import DecayedPopularity, ItemKnn, OwnItems
from models.baselines.libraries import RiverFactors
from models.baselines.refits import AlsRefit
from models.metrics import gains, hits
from recsys.evaluate import BaselineMethod, Outcome, best_items, prefix, run
from recsys.evaluation_log import answers_of, build
from recsys.evaluation_methods import BASELINES, POPULAR_WEIGHTS, evaluate, tune
from recsys.evaluation_report import (
    compared,
    report,
    rows,
    split_rows,
    splits,
    splits_compared,
)
from recsys.evaluation_served import ServedMethod
from recsys.pipeline import Pipeline, PipelineConfig
from recsys.rerank import RerankConfig
from streams.events import BehaviourEvent

DAY_MS = 86_400_000
START_MS = 1_600_000_000_000


def event(user, item, at_ms, kind="purchase"):
    return BehaviourEvent(user_id=user, item_id=item, type=kind, timestamp=START_MS + at_ms)


def baskets(count=300, users=30, items=60, size=6, seed=0):
    """Users going round a circle of items, a basket a step; a basket's lines keep their order."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, items, users)
    events = []
    for number in range(count):
        user = int(rng.integers(0, users))
        events += [
            event(f"u{user}", f"i{(places[user] + step) % items}", number * 3_600_000)
            for step in range(size)
        ]
        places[user] += size
    return events


def tastes(count=400, users=30, groups=3, size=6, seed=0):
    """Users of a few groups, each with twenty items of its own, the first ones the most wanted."""
    rng = np.random.default_rng(seed)
    events = []
    for number in range(count):
        user = int(rng.integers(0, users))
        wanted = 20 * (user % groups) + np.minimum(rng.geometric(0.12, size) - 1, 19)
        events += [event(f"u{user}", f"i{item}", number * 3_600_000) for item in wanted]
    return events


class Recorder:
    """A method that notes what it was asked and told, in order."""

    def __init__(self):
        self.calls = []

    def recommend(self, step, k, hidden):
        self.calls.append(("asked", step, frozenset(hidden)))
        return np.empty(0, np.int32)

    def learn(self, step):
        self.calls.append(("told", step))


def test_a_basket_is_predicted_before_any_of_it_is_learned():
    log = build(baskets())
    recorder = Recorder()
    run(recorder, log, answers_of(log, True, 0.2), repeats=True)
    told = -1
    for name, step, *_ in recorder.calls:
        if name == "asked":
            assert told == step - 1
        told = step if name == "told" else told
    assert told == len(log.steps) - 2


def test_learning_inside_a_basket_would_inflate_the_figures():
    """The trap this instrument is built around: one step an event instead of one a basket."""
    shuffled = baskets()
    honest = build(shuffled)
    apart = build(
        [
            BehaviourEvent(
                user_id=each.user_id, item_id=each.item_id, type=each.type,
                timestamp=each.timestamp + number % 6,
            )
            for number, each in enumerate(shuffled)
        ]
    )  # fmt: skip
    found = []
    for log in (honest, apart):
        answers = answers_of(log, True, 0.2)
        knn = ItemKnn(len(log.user_ids), len(log.item_ids))
        outcome = run(BaselineMethod(knn, log, True), log, answers, repeats=True)
        found.append(hits(outcome.ranks, 10).mean())
    assert found[1] > 2 * found[0]


def test_users_of_one_moment_come_in_a_seeded_random_order():
    events = [event(f"u{n}", "a", 0) for n in range(50)]
    first, again, other = build(events, 0), build(events, 0), build(events, 1)
    assert first.user_ids == again.user_ids
    assert first.user_ids != other.user_ids
    assert first.user_ids != tuple(f"u{n}" for n in range(50))
    assert first.digest == again.digest


def test_events_of_one_user_and_moment_stay_together_and_in_order():
    events = [event(f"u{n % 3}", f"i{n}", 0) for n in range(12)]
    log = build(events)
    assert len(log.steps) == 4
    for start, stop in zip(log.steps[:-1], log.steps[1:], strict=True):
        assert len(set(log.users[start:stop].tolist())) == 1
        numbers = [int(log.item_ids[item][1:]) for item in log.items[start:stop]]
        assert numbers == sorted(numbers)


def test_answers_are_wanted_items_that_were_seen_before():
    log = build(
        [
            event("u", "a", 0), event("u", "b", 0),
            event("v", "a", 1),  # a, new to v
            event("u", "a", 2),  # u had it
            event("u", "c", 3),  # never seen before
            event("u", "b", 4, "return"),
            event("v", "b", 5), event("v", "b", 5),  # twice in one basket
        ]
    )  # fmt: skip
    new, repeat = answers_of(log, False, 0.0), answers_of(log, True, 0.0)
    assert new.events.tolist() == [2, 6, 7]
    assert repeat.events.tolist() == [2, 3, 6, 7]
    assert repeat.user_before.tolist() == [0, 2, 1, 1]
    assert repeat.item_before.tolist() == [1, 2, 2, 2]
    assert answers_of(log, True, 0.5).events.tolist() == [6, 7]


def viewed_then_clicked():
    return build(
        [
            event("u", "a", 0, "impression"), event("v", "a", 1, "impression"),
            event("v", "a", 2, "click"), event("u", "b", 3, "click"), event("v", "b", 4, "dislike"),
            event("u", "a", 5, "click"), event("v", "b", 6, "click"), event("v", "b", 7, "click"),
        ]
    )  # fmt: skip


def test_who_was_shown_an_item_has_not_had_it():
    log = viewed_then_clicked()
    assert answers_of(log, False, 0.0).events.tolist() == [2, 5, 6]
    lists = {}
    for lag_ms in (0, 3):
        method = BaselineMethod(DecayedPopularity(2, 10.0), log, False)
        outcome = run(
            method, log, answers_of(log, False, 0.0), repeats=False, lag_ms=lag_ms
        )  # fmt: skip
        lists[lag_ms] = outcome.lists[:, :2].tolist()
    assert lists[0] == [[0, -1], [0, -1], [1, -1]]
    assert lists[3] == [[-1, -1], [0, -1], [1, -1]]  # u's a is not hidden by its impression


def test_lists_of_new_items_hold_nothing_the_user_had_even_when_learning_lags():
    log = build(baskets(users=5))
    answers = answers_of(log, False, 0.2)
    step_of = dict.fromkeys(answers.steps.tolist())
    for lag_ms in (0, 40 * 3_600_000):
        popularity = DecayedPopularity(len(log.item_ids), 1e6)
        outcome = run(
            BaselineMethod(popularity, log, False), log, answers, repeats=False, lag_ms=lag_ms
        )
        for step, listed in zip(step_of, outcome.lists, strict=True):
            begin = log.steps[step]
            had = set(log.items[:begin][log.users[:begin] == log.users[begin]].tolist())
            assert not had & set(listed.tolist())


def test_a_lag_learns_only_what_is_old_enough():
    log = build(baskets(40))
    recorder = Recorder()
    lag_ms = 10 * 3_600_000
    run(recorder, log, answers_of(log, True, 0.0), repeats=True, lag_ms=lag_ms)
    told = -1
    for name, step, *_ in recorder.calls:
        if name == "told":
            assert step == told + 1
            told = step
        elif told >= 0:
            now, newest = log.times_ms[log.steps[step]], log.times_ms[log.steps[told]]
            assert newest + lag_ms <= now
    assert -1 < told < len(log.steps) - 2


def test_full_ranking_by_hand():
    scores = np.array([1, 5, 5, -np.inf, 9, 2], np.float32)
    assert best_items(scores, np.array([4]), 3).tolist() == [1, 2, 5]
    assert best_items(np.zeros(2, np.float32), np.array([], np.int64), 5).tolist() == [0, 1]


def test_decayed_popularity_by_brute_force():
    rng = np.random.default_rng(0)
    items = rng.integers(0, 20, 500).astype(np.int32)
    model = DecayedPopularity(20, 3.0)
    for item in items:
        model.learn(0, np.array([item]), 0.0)
    ages = len(items) - 1 - np.arange(len(items))
    expected = np.bincount(items, weights=2.0 ** (-ages / 3.0), minlength=20)
    found = model.scores(0, 20, 0.0)
    assert np.allclose(found / found.max(), expected / expected.max(), atol=1e-5)


def test_item_knn_by_brute_force():
    rng = np.random.default_rng(1)
    model = ItemKnn(1, 12, half_life_events=1e12, learn_items=3, learn_decay=0.5, read_items=2,
                    read_decay=0.5)  # fmt: skip
    past, pairs, counts = [], np.zeros((12, 12)), np.zeros(12)
    for item in rng.integers(0, 12, 80).tolist():
        model.learn(0, np.array([item], np.int32), 0.0)
        for place, other in enumerate(past[:3]):
            if other != item:
                pairs[item, other] += 0.5**place
                pairs[other, item] += 0.5**place
        counts[item] += 1
        past = [item] + [each for each in past if each != item]
    expected = sum(0.5**n * pairs[past[n]] / np.sqrt(counts[past[n]] + 0.5) for n in range(2))
    expected = expected / np.sqrt(counts + 0.5)
    assert np.allclose(model.scores(0, 12, 0.0), expected, rtol=1e-5)


def test_own_items_come_first_and_the_popular_fill_up():
    own = OwnItems(2, 5, half_life_days=7.0, power=1.0)
    for user, item in ((0, 0), (0, 1), (0, 1), (1, 3), (1, 3), (1, 3), (1, 2)):
        own.learn(user, np.array([item], np.int32), 86_400.0)
    assert np.argsort(-own.scores(0, 5, 1e9)).tolist() == [1, 0, 3, 2, 4]
    assert np.argsort(-own.scores(1, 5, 1e9)).tolist() == [3, 2, 1, 0, 4]


def test_river_is_read_as_it_predicts():
    for biased in (0, 1):
        model = RiverFactors(4, 8, factors=4, biased=biased)
        rng = np.random.default_rng(0)
        for _ in range(200):
            user = int(rng.integers(0, 4))
            model.learn(user, rng.integers(0, 8, 2).astype(np.int32), 0.0)
        predicted = [model._model.predict_one(user=1, item=item) for item in range(8)]
        apart = np.array(predicted) - model.scores(1, 8, 0.0)
        assert np.allclose(apart, apart[0], atol=1e-5)


def test_users_of_a_log_of_many_years_are_kept():
    year_ms = 365 * DAY_MS
    log = build(
        [event("early", f"i{n}", n) for n in range(10)]
        + [event(f"u{n % 40}", f"i{n % 10}", 3 * year_ms + n * 1000) for n in range(5_000)]
    )
    served = ServedMethod(log, PipelineConfig())
    for step in range(len(log.steps) - 1):
        served.learn(step)
    assert served.users_known == len(log.user_ids) == 41


def test_what_an_event_takes_is_measured_on_events_that_are_new(monkeypatch):
    log = build(baskets())
    served = ServedMethod(log, PipelineConfig())
    learned = Counter()

    def counted(self, users, batch, real=Pipeline.learn):
        learned[id(self)] += len(batch.items)
        return real(self, users, batch)

    for step in range(len(log.steps) - 1):
        served.learn(step)
    monkeypatch.setattr(Pipeline, "learn", counted)
    assert served.learn_us() > 0
    assert learned[id(served.pipeline)] == 0
    assert len(log) in learned.values()


def test_als_folds_users_in_with_the_confidence_it_was_fitted_by():
    rng = np.random.default_rng(0)
    model = AlsRefit(40, 60, refit_events=800, factors=8, regularisation=0.05, alpha=3.0)
    for user, item in zip(rng.integers(0, 40, 800), (60 * rng.random(800) ** 2), strict=True):
        model.learn(int(user), np.array([int(item)], np.int32), 0.0)
    fitted = AlternatingLeastSquares(
        8, regularization=0.05, alpha=1.0, iterations=10, num_threads=1, random_state=0
    )
    confidence = model._matrix() * 4.0  # 1 + alpha
    with threadpool_limits(1, "blas"):
        fitted.fit(confidence, show_progress=False)
        vector = fitted.recalculate_user(5, confidence[5])
    want = fitted.item_factors @ vector
    assert model.scores(5, 60, 0.0) == pytest.approx(want, abs=1e-3)


def test_of_one_user_no_interval_is_told():
    log = build([event("u", "a", 0), event("v", "a", 1)])
    answers = answers_of(log, False, 0.0)
    outcome = Outcome(np.zeros(1, np.int32), np.zeros((1, 10), np.int32), 1.0, 1.0)
    numbers = report(
        log, answers, {"recsys": outcome, "popularity": outcome}, protocol="new", warm_up=0.0,
        lag_ms=0, skipped={}, k=10,
    )  # fmt: skip
    assert len(answers) == 1
    assert numbers["methods"]["recsys"]["ndcg@10_interval"] is None
    json.dumps(numbers, allow_nan=False)
    assert {row["±"] for row in rows(numbers, 10)[0]} == {""}


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_learns_something(name):
    in_turn = name in ("sequence", "item-knn", "item-knn-decayed", "session-knn")
    log = build(baskets(400) if in_turn else tastes())
    answers = answers_of(log, True, 0.5)
    outcome = evaluate(name, log, repeats=True, warm_up=0.5, config=PipelineConfig())
    assert outcome.lists.shape[1] == 10
    assert len(outcome.ranks) == len(answers)
    # Ten of sixty at random hold one answer of six.
    assert hits(outcome.ranks, 10).mean() > 1 / 6


FILLED = [name for name, spec in BASELINES.items() if spec.filled]


@pytest.mark.parametrize(
    ("name", "later"),
    [(name, 0) for name in FILLED if name != "implicit-bpr"]  # which learns what is popular
    + [(name, 20_000) for name in FILLED if "refit" in name or "implicit" in name],
)
def test_who_has_no_history_is_listed_the_popular(name, later):
    """Where no refit was yet as well: `later` events are so many that none is due."""
    late = [f"i{item}" for item in range(50, 60)]  # the newest ten, and all that is bought of late
    events = tastes() + [
        event(f"u{n % 30}", late[n % 10], (500 + n) * 3_600_000) for n in range(300)
    ]
    events.append(event("stranger", late[0], 1_000 * 3_600_000))
    events += [event("u0", late[0], 1_001 * 3_600_000 + n) for n in range(later)]
    log = build(events)
    given = {**BASELINES[name].grid[0], "popular_half_life_events": 50.0}
    method = BaselineMethod(BASELINES[name].baseline(log, given), log, False)
    asked = int(np.flatnonzero(log.users[log.steps[:-1]] == log.user_ids.index("stranger"))[0])
    for step in range(asked):
        method.learn(step)
    assert {log.item_ids[item] for item in method.recommend(asked, 10, set())} == set(late)


def test_of_filled_baselines_the_weight_of_the_popular_is_tuned():
    log = build(tastes())
    given = tune(BASELINES["item-knn"], log, True, 10, 0.2)
    assert given["popular_weight"] in POPULAR_WEIGHTS
    assert {"half_life_events": given["popular_half_life_events"]} in BASELINES["popularity"].grid
    outcome = evaluate("item-knn", log, repeats=True, warm_up=0.5, config=PipelineConfig())
    assert f"popular_weight {given['popular_weight']:g}" in outcome.settings


def test_what_nothing_could_be_tuned_on_is_told_untuned():
    log = build(baskets())
    outcome = evaluate("popularity", log, repeats=True, warm_up=0.0, config=PipelineConfig())
    assert outcome.settings == "half_life_events 500 (untuned)"


def test_tuning_sees_the_prefix_only():
    log = build(baskets(400))
    part = prefix(log, 0.2)
    assert len(part) <= 0.2 * len(log)
    assert part.times_ms.max() <= log.times_ms[len(part)]
    changed = build([*baskets(400)[: len(part)], *baskets(400, seed=9)[len(part) :]])
    spec = BASELINES["item-knn"]
    assert tune(spec, log, True, 10, 0.2) == tune(spec, changed, True, 10, 0.2)


def test_the_report_adds_up():
    log = build(baskets())
    answers = answers_of(log, True, 0.2)
    config = PipelineConfig(rerank=RerankConfig(repeats=True))
    outcomes = {
        name: evaluate(name, log, repeats=True, warm_up=0.2, config=config)
        for name in ("recsys", "popularity")
    }
    numbers = report(
        log, answers, outcomes, protocol="repeat", warm_up=0.2, lag_ms=0, skipped={}, k=10
    )
    served = numbers["methods"]["recsys"]
    assert served["events"] == len(answers) == numbers["scored"]
    assert served["ndcg@10"] == pytest.approx(gains(outcomes["recsys"].ranks, 10).mean())
    parts = served["splits"]
    users = parts["new users"]["events"] + parts["returning users"]["events"]
    assert users == len(answers)
    assert served["learn_us"] > 0 < served["recommend_us"]
    assert compared(outcomes, 10)["recsys / popularity"]["ratio"] > 1
    for lines, columns in (rows(numbers, 10), split_rows(numbers, 10)):
        assert set(columns) == set(lines[0])


def test_a_split_in_which_the_best_baseline_is_better_is_told():
    log = build(baskets())
    answers = answers_of(log, True, 0.2)
    new_items = answers.item_before < 5
    better = np.where(new_items, 9, 0).astype(np.int32)
    worse = np.where(new_items, 0, 5).astype(np.int32)
    lists = np.zeros((len(log.steps) - 1, 10), np.int32)
    outcomes = {
        name: Outcome(ranks, lists, 1.0, 1.0)
        for name, ranks in (("recsys", better), ("item-knn", worse))
    }
    users = log.users[answers.events]
    parts = splits_compared(outcomes, splits(log, answers), users, 10)
    assert new_items.any()
    assert parts["new items"]["behind"]
    assert parts["new items"]["difference"] == pytest.approx(1 / np.log2(11) - 1)
    assert not parts["returning users"]["behind"]
