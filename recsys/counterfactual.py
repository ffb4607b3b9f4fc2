"""What other pipelines would have earned on the lists of one log, from the odds it was shown by.

A decision is an item of a list that was shown; its reward is 1 where the user then took it, before
their next list. Its weight is how likely the pipeline in question shows the item in its own list
of that moment, over how likely it was to be shown. Only what could have been shown can be weighed:
where a log shows everything with certainty, nothing is learned about other items. `support` says
which share of a pipeline's own choices the log could have shown.
"""

import gzip
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models import offpolicy
from models.offpolicy import Estimate
from recsys.evaluate import Progress
from recsys.evaluation_log import NOT_ANSWERS, EvaluationLog
from recsys.evaluation_served import ServedMethod
from recsys.event_batch import TYPE_CODES
from recsys.pipeline import PipelineConfig
from recsys.rules import Rule
from recsys.variants import place_of
from streams.events import RankedList

PRIOR_SHOWN = 20.0  # an item's predicted reward leans on the mean as if it was shown so often more


class ListsError(ValueError):
    """A log of lists that cannot be used; the message says why, in a sentence."""


@dataclass(frozen=True)
class Shown:
    """n decisions: items that lists showed, with their propensities and rewards."""

    lists: list[int]  # (n,), which list
    items: list[int]  # (n,), item numbers, -1: not in the log of behaviour
    propensities: list[float]
    rewards: list[float]


def read_lists(file: Path) -> list[RankedList]:
    """Ranked lists, a JSON object a line; a name in .gz is unpacked. Raises ListsError."""
    lists: list[RankedList] = []
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                lists.append(msgspec.json.decode(line, type=RankedList))
            except ValueError as error:
                raise ListsError(f"{file}, line {number}: {error}") from None
            for item in lists[-1].items:
                if not item.propensity > 0:
                    told = f"{item.item_id} was shown, so its propensity is above 0"
                    raise ListsError(f"{file}, line {number}: {told}")
    if not any(each.items for each in lists):
        raise ListsError(f"{file} holds no lists, or none with an item")
    return lists


def shown(log: EvaluationLog, lists: Sequence[RankedList], horizon_ms: int) -> Shown:
    """Each shown item with its reward: the user's answers until their next list, or the horizon.

    A list that answers an event was made after it, any other before what came at its own moment.
    Raises ListsError where no list is of a user of the log.
    """
    if not {each.user_id for each in lists} & set(log.user_ids):
        raise ListsError("none of these lists is of a user of the log")
    numbers = {item_id: number for number, item_id in enumerate(log.item_ids)}
    answered = _answers_by_user(log)
    times = defaultdict(list)  # and whether a list was made after what came at its moment
    for each in lists:
        times[each.user_id].append((each.event_time, each.trigger.kind == "event"))
    for mine in times.values():
        mine.sort()
    found = Shown([], [], [], [])
    for at, each in enumerate(lists):
        after = each.trigger.kind == "event"
        cut = bisect_right if after else bisect_left
        mine, moment = times[each.user_id], each.event_time
        later = bisect_right(mine, (moment, after))
        until, end = moment + horizon_ms, cut
        if later < len(mine) and mine[later][0] <= until:
            until, answers = mine[later]
            end = bisect_right if answers else bisect_left
        moments, items = answered.get(each.user_id, ([], []))
        taken = set(items[cut(moments, moment) : end(moments, until)])
        for item in each.items:
            number = numbers.get(item.item_id, -1)
            found.lists.append(at)
            found.items.append(number)
            found.propensities.append(item.propensity)
            found.rewards.append(float(number in taken))
    return found


def estimates(
    log: EvaluationLog, lists: Sequence[RankedList], decisions: Shown, config: PipelineConfig,
    progress: Progress | None = None, rules: Sequence[Rule] = (),
) -> dict[str, Any]:  # fmt: skip
    """What a pipeline would have earned an item shown: by IPS, SNIPS and DR, with intervals."""
    policies = _policies(log, lists, ServedMethod(log, config, rules=rules), progress)
    predict = _predictions(lists, decisions)
    target, predicted = np.zeros(len(decisions.items)), np.zeros(len(decisions.items))
    mean_of_list = np.zeros(len(lists))
    for at, each in enumerate(lists):
        own = policies[at]
        total = sum(odds * predict(at, item) for item, odds in own.items())
        mean_of_list[at] = total / max(len(each.items), 1)
    for n, (at, item) in enumerate(zip(decisions.lists, decisions.items, strict=True)):
        target[n], predicted[n] = policies[at].get(item, 0.0), predict(at, item)
    rewards, logged = np.array(decisions.rewards), np.array(decisions.propensities)
    _, of_list = np.unique([each.user_id for each in lists], return_inverse=True)
    users = of_list[decisions.lists]
    return {
        "ips": _told(offpolicy.ips(rewards, target, logged, groups=users)),
        "snips": _told(offpolicy.snips(rewards, target, logged, groups=users)),
        "dr": _told(
            offpolicy.doubly_robust(
                rewards, target, logged, predicted, mean_of_list[decisions.lists], groups=users
            )
        ),
        "support": float((target / logged).mean()),
    }


def _policies(
    log: EvaluationLog, lists: Sequence[RankedList], served: ServedMethod,
    progress: Progress | None,
) -> list[dict[int, float]]:  # fmt: skip
    """For each list, the items that the pipeline may show at its moment, with their odds."""
    before: dict[tuple[str, int], list[int]] = defaultdict(list)
    after: dict[tuple[str, int], list[int]] = defaultdict(list)
    for at, each in enumerate(lists):
        (after if each.trigger.kind == "event" else before)[each.user_id, each.event_time].append(
            at
        )
    steps = {(log.user_ids[log.users[begin]], int(log.times_ms[begin])) for begin in log.steps[:-1]}
    stray = sorted(
        (moment, at) for kind in (before, after) for (user, moment), found in kind.items()
        if (user, moment) not in steps for at in found
    )  # fmt: skip
    policies = [dict[int, float]() for _ in lists]

    def ask(wanted: Sequence[int]) -> None:
        for at in wanted:
            each = lists[at]
            policies[at] = served.odds(each.user_id, each.event_time, len(each.items))

    done = 0
    for step in range(len(log.steps) - 1):
        begin = int(log.steps[step])
        key = log.user_ids[log.users[begin]], int(log.times_ms[begin])
        while done < len(stray) and stray[done][0] < key[1]:
            ask([stray[done][1]])
            done += 1
        ask(before.get(key, ()))
        served.learn(step)
        ask(after.get(key, ()))
        if progress is not None and step % 256 == 0:
            progress(begin)
    ask([at for _, at in stray[done:]])
    return policies


def _predictions(lists: Sequence[RankedList], decisions: Shown) -> Any:
    """The reward of an item in a list: its mean among the lists of the other half of the users."""
    half = [place_of(each.user_id, "half") < 0.5 for each in lists]
    sums: list[dict[int, list[float]]] = [defaultdict(lambda: [0.0, 0.0]) for _ in range(2)]
    totals = [[0.0, 0.0], [0.0, 0.0]]
    for at, item, reward in zip(decisions.lists, decisions.items, decisions.rewards, strict=True):
        for one in (sums[half[at]][item], totals[half[at]]):
            one[0] += reward
            one[1] += 1.0

    def predict(at: int, item: int) -> float:
        other = not half[at]
        mean = totals[other][0] / max(totals[other][1], 1.0)
        won, times = sums[other].get(item, (0.0, 0.0))
        return (won + PRIOR_SHOWN * mean) / (times + PRIOR_SHOWN)

    return predict


def _answers_by_user(log: EvaluationLog) -> dict[str, tuple[list[int], list[int]]]:
    """Times and items of each user's answers, in order."""
    wanted = ~np.isin(log.types, [TYPE_CODES[name] for name in NOT_ANSWERS])
    out: dict[str, tuple[list[int], list[int]]] = {}
    for event in np.flatnonzero(wanted).tolist():
        times, items = out.setdefault(log.user_ids[log.users[event]], ([], []))
        times.append(int(log.times_ms[event]))
        items.append(int(log.items[event]))
    return out


def _told(estimate: Estimate) -> dict[str, Any]:
    """For JSON, which has no infinity: no limits where one user's decisions leave none."""
    low, high = (each if np.isfinite(each) else None for each in estimate.interval())
    return {
        "value": estimate.value, "low": low, "high": high,
        "effective_size": estimate.effective_size,
    }  # fmt: skip
