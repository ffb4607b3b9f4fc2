"""The methods that one can name in an evaluation, and how each is tuned on the log's prefix."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.baselines.base import Baseline
from models.baselines.counted import OWN_FIRST, DecayedPopularity, ItemKnn, OwnItems
from models.baselines.factors import Bpr, Isgd
from models.baselines.filled import Filled
from models.baselines.libraries import ImplicitBpr, ImplicitNeighbours, RiverFactors
from models.baselines.pairs import TooManyPairsError
from models.baselines.refits import AlsRefit, EaseRefit
from models.baselines.sessions import VectorSessionKnn
from models.metrics import gains
from recsys.evaluate import (
    BaselineMethod,
    ListKeeper,
    Outcome,
    Progress,
    prefix,
    run,
)
from recsys.evaluation_log import EvaluationLog, answers_of
from recsys.evaluation_served import ServedMethod
from recsys.pipeline import PipelineConfig
from recsys.rules import Rule

SERVED = "recsys"
REFITS = 8  # scheduled refits over a log
TUNING_SHARE_MAX = 0.2  # of a log, where its warm-up is longer
TUNING_WARM_UP = 0.5  # share of the prefix that tuning does not score
POPULAR_WEIGHTS = (OWN_FIRST, 0.05, 0.2)
FILLING = ("popular_weight", "popular_half_life_events")  # settings of `Filled`

UNTUNED = " (untuned)"  # ends the settings of a baseline that there was nothing to tune on

Given = Mapping[str, Any]


@dataclass(frozen=True)
class BaselineSpec:
    """How to make a baseline from its settings, and the settings that tuning tries.

    Behind a `filled` one stand the popular, for users and items that it says nothing of.
    """

    make: Callable[[EvaluationLog, Given], Baseline]
    grid: Sequence[Given] = ({},)
    repeats_only: bool = False
    filled: bool = False

    def baseline(self, log: EvaluationLog, given: Given) -> Baseline:
        """The baseline with these settings, those of `Filled` among them."""
        if not self.filled:
            return self.make(log, given)
        own = {name: value for name, value in given.items() if name not in FILLING}
        filling = {name: value for name, value in given.items() if name in FILLING}
        return Filled(self.make(log, own), len(log.item_ids), **filling)


def _knn(log: EvaluationLog, given: Given) -> Baseline:
    return ItemKnn(len(log.user_ids), len(log.item_ids), **given)


def _users_items(kind: Callable[..., Baseline]) -> Callable[[EvaluationLog, Given], Baseline]:
    return lambda log, given: kind(len(log.user_ids), len(log.item_ids), **given)


def _refitted(kind: Callable[..., Baseline]) -> Callable[[EvaluationLog, Given], Baseline]:
    return lambda log, given: kind(
        len(log.user_ids), len(log.item_ids), refit_events=max(len(log) // REFITS, 1), **given
    )


READ = ({"read_items": 16, "read_decay": 0.8}, {"read_items": 64, "read_decay": 0.97})
POWERS = ({"own_power": 0.5, "other_power": 0.5}, {"own_power": 1.0, "other_power": 0.0})
FOR_EVER = 1e12

BASELINES: Mapping[str, BaselineSpec] = {
    "popularity": BaselineSpec(
        lambda log, given: DecayedPopularity(len(log.item_ids), **given),
        [{"half_life_events": half} for half in (500.0, 2_000.0, 10_000.0, 50_000.0)],
    ),
    "own-items": BaselineSpec(
        _users_items(OwnItems),
        [{"half_life_days": days, "power": power, "popular_weight": popular}
         for days in (1.0, 7.0, 30.0, 180.0) for power in (0.5, 1.0)
         for popular in POPULAR_WEIGHTS],
        repeats_only=True,
    ),
    "sequence": BaselineSpec(
        _knn,
        [{"both_ways": 0, "learn_items": 8, "learn_decay": 0.7, "read_items": read,
          "read_decay": 0.6, "own_power": 1.0, "other_power": other, "half_life_events": half}
         for read in (1, 3) for other in (0.0, 0.5) for half in (20_000.0, FOR_EVER)],
        filled=True,
    ),
    "item-knn": BaselineSpec(
        _knn,
        [{**read, **power, "half_life_events": FOR_EVER} for read in READ for power in POWERS],
        filled=True,
    ),
    "item-knn-decayed": BaselineSpec(
        _knn,
        [{**read, **power, "half_life_events": half}
         for read in READ for power in POWERS for half in (10_000.0, 50_000.0)],
        filled=True,
    ),
    "session-knn": BaselineSpec(
        _users_items(VectorSessionKnn),
        [{"neighbours": n, "read_items": read, "read_decay": decay}
         for n in (32, 128) for read, decay in ((8, 0.8), (32, 0.95))],
        filled=True,
    ),
    "isgd": BaselineSpec(
        _users_items(Isgd),
        [{"learning_rate": rate, "regularisation": shrink}
         for rate in (0.02, 0.05) for shrink in (0.01, 0.1)],
    ),
    "bpr": BaselineSpec(
        _users_items(Bpr),
        [{"learning_rate": rate, "regularisation": shrink}
         for rate in (0.05, 0.15) for shrink in (0.002, 0.02)],
    ),
    "als-refit": BaselineSpec(
        _refitted(AlsRefit),
        [{"factors": factors, "alpha": alpha} for factors in (32, 64) for alpha in (1.0, 10.0)],
        filled=True,
    ),
    "ease-refit": BaselineSpec(
        _refitted(EaseRefit),
        [{"regularisation": shrink} for shrink in (20.0, 100.0, 500.0)],
        filled=True,
    ),
    "implicit-bpr": BaselineSpec(
        _refitted(ImplicitBpr),
        [{"learning_rate": rate, "iterations": rounds}
         for rate in (0.02, 0.05) for rounds in (50, 150)],
        filled=True,
    ),
    "implicit-item-knn": BaselineSpec(
        _refitted(ImplicitNeighbours),
        [{"weighting": kind, "neighbours": n} for kind in (0, 1, 2) for n in (50, 200)],
        filled=True,
    ),
    "river-mf": BaselineSpec(
        _users_items(RiverFactors),
        [{"biased": biased, "learning_rate": rate}
         for biased in (0, 1) for rate in (0.02, 0.05)],
    ),
}  # fmt: skip


def method_names(repeats: bool) -> list[str]:
    """Every method that fits the protocol, the served pipeline first."""
    return [SERVED] + [name for name, spec in BASELINES.items() if repeats or not spec.repeats_only]


def tune(
    spec: BaselineSpec, log: EvaluationLog, repeats: bool, k: int, share: float
) -> Given | None:
    """The settings with the highest NDCG@k on the second half of the log's first `share`.

    Of a filled one the grid first, far before the popular; then how near they come. Their
    half-life is the one popularity is tuned to. None where that half has no answers.
    """
    part = prefix(log, share)
    answers = answers_of(part, repeats, TUNING_WARM_UP)
    if not len(answers):
        return None

    def best(spec: BaselineSpec, grid: Sequence[Given]) -> Given:
        if len(grid) == 1:
            return grid[0]
        scores = []
        for given in grid:
            method = BaselineMethod(spec.baseline(part, given), part, repeats)
            outcome = run(method, part, answers, repeats=repeats, k=k)
            scores.append(float(gains(outcome.ranks, k).mean()))
        return grid[int(np.argmax(scores))]

    if not spec.filled:
        return best(spec, spec.grid)
    popular = BASELINES["popularity"]
    half_life = best(popular, popular.grid)["half_life_events"]
    filling = {"popular_weight": OWN_FIRST, "popular_half_life_events": half_life}
    found = best(spec, [{**given, **filling} for given in spec.grid])
    return best(spec, [{**found, "popular_weight": weight} for weight in POPULAR_WEIGHTS])


def evaluate(
    name: str, log: EvaluationLog, *, repeats: bool, warm_up: float, config: PipelineConfig,
    k: int = 10, lag_ms: int = 0, progress: Progress | None = None, keep: ListKeeper | None = None,
    rules: Sequence[Rule] = (),
) -> Outcome:  # fmt: skip
    """One method over the log, tuned on its warm-up where there is something to tune.

    A name that is no baseline's is the pipeline of `config` with the shop's `rules`; `keep` is
    handed each of its lists.

    Raises:
        TooManyPairsError: the log has more pairs of items than this baseline may count.
    """
    answers = answers_of(log, repeats, warm_up)
    spec = BASELINES.get(name)
    if spec is None:
        served = ServedMethod(log, config, keep, rules=rules)
        outcome = run(served, log, answers, repeats=repeats, k=k, lag_ms=lag_ms, progress=progress)
        return Outcome(
            outcome.ranks, outcome.lists, served.recommend_us(), served.learn_us(),
            served.memory_bytes, "",
        )  # fmt: skip
    found = tune(spec, log, repeats, k, min(warm_up, TUNING_SHARE_MAX))
    given = spec.grid[0] if found is None else found
    method = BaselineMethod(spec.baseline(log, given), log, repeats)
    outcome = run(method, log, answers, repeats=repeats, k=k, lag_ms=lag_ms, progress=progress)
    told = ", ".join(f"{key} {value:g}" for key, value in given.items())
    told += UNTUNED if found is None else ""
    return Outcome(
        outcome.ranks, outcome.lists, outcome.recommend_us, outcome.learn_us,
        method.memory_bytes, told,
    )  # fmt: skip


__all__ = [
    "BASELINES",
    "SERVED",
    "UNTUNED",
    "TooManyPairsError",
    "evaluate",
    "method_names",
    "tune",
]
