"""Predict, score, learn: what a method's lists are worth, step by step in the order of events.

Every step's list is made before the step is learned, over all items known so far. Times are the
process's processor time, so that other work on the machine does not count.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.baselines.base import Baseline
from models.kernels import kernel
from models.metrics import MISSED, Lists, Ranks
from recsys.evaluation_log import Answers, EvaluationLog, had
from streams.events import RankedItem

UNLEARNED = ("return", "dislike", "impression")

Progress = Callable[[int], None]
ListKeeper = Callable[[int, str, int, list[RankedItem]], None]  # step, user, time, items


class Method(Protocol):
    """Something that makes lists of item numbers of an `EvaluationLog`."""

    def recommend(self, step: int, k: int, hidden: set[int]) -> NDArray[np.int32]:
        """Up to k items, best first, without those in `hidden`, before the step is learned."""

    def learn(self, step: int) -> None:
        """Learn all events of a step."""


@dataclass(frozen=True)
class Outcome:
    """What a method did: the rank of each answer, its lists, and what they took."""

    ranks: Ranks  # (m,)
    lists: Lists  # (number of lists, k)
    recommend_us: float  # a list
    learn_us: float  # an event
    memory_bytes: int = 0
    settings: str = ""


def run(
    method: Method, log: EvaluationLog, answers: Answers, *, repeats: bool, k: int = 10,
    lag_ms: int = 0, progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Predict each step with answers, then learn it; with a lag only what is older than that.

    A lag hides what is not learned yet from the method, never from the rule that lists of new
    items hold nothing the user had.
    """
    count = len(log.steps) - 1
    ranks = np.full(len(answers), MISSED, np.int32)
    starts = np.searchsorted(answers.steps, np.arange(count + 1))
    lists: list[NDArray[np.int32]] = []
    counts = had(log)
    waiting: dict[int, set[int]] = {}  # what each user had in steps that are not learned yet
    learned, asked_s, learned_s = 0, 0.0, 0.0
    for step in range(count):
        begin = int(log.steps[step])
        while learned < step and log.times_ms[log.steps[learned]] + lag_ms <= log.times_ms[begin]:
            learned_s += _learn(method, log, learned, counts, waiting)
            learned += 1
        first, last = int(starts[step]), int(starts[step + 1])
        user = int(log.users[begin])
        if first < last:
            hidden = set() if repeats else waiting.get(user, set())
            started = time.process_time()
            listed = method.recommend(step, k, hidden)
            asked_s += time.process_time() - started
            row = np.full(k, -1, np.int32)
            row[: len(listed)] = listed
            lists.append(row)
            for at in range(first, last):
                found = np.flatnonzero(row == log.items[answers.events[at]])
                if len(found):
                    ranks[at] = found[0]
        if lag_ms == 0:
            learned_s += _learn(method, log, step, counts, waiting)
            learned = step + 1
        else:
            waiting.setdefault(user, set()).update(_had(log, step, counts))
        if progress is not None and step % 256 == 0:
            progress(int(log.steps[step + 1]))
    if progress is not None:
        progress(len(log))
    return Outcome(
        ranks, np.array(lists, np.int32).reshape(-1, k), asked_s / max(len(lists), 1) * 1e6,
        learned_s / max(len(log), 1) * 1e6,
    )  # fmt: skip


def _learn(
    method: Method, log: EvaluationLog, step: int, counts: NDArray[np.bool_],
    waiting: dict[int, set[int]],
) -> float:  # fmt: skip
    started = time.process_time()
    method.learn(step)
    taken = time.process_time() - started
    user = int(log.users[log.steps[step]])
    if user in waiting:
        waiting[user] -= _had(log, step, counts)
        if not waiting[user]:
            del waiting[user]
    return taken


def _had(log: EvaluationLog, step: int, counts: NDArray[np.bool_]) -> set[int]:
    """The items that the step's user had in it."""
    events = slice(int(log.steps[step]), int(log.steps[step + 1]))
    return set(log.items[events][counts[events]].tolist())


class BaselineMethod:
    """A baseline over the log: ranks all items that had an event by then."""

    def __init__(self, baseline: Baseline, log: EvaluationLog, repeats: bool) -> None:
        self._baseline, self._log, self._repeats = baseline, log, repeats
        self._had: list[set[int]] = [set() for _ in log.user_ids]
        self._counts = had(log)
        self._known = 0
        self._wanted = ~np.isin(log.types, [_code(name) for name in UNLEARNED])

    def recommend(self, step: int, k: int, hidden: set[int]) -> NDArray[np.int32]:
        """The best of all known items."""
        begin = int(self._log.steps[step])
        user = int(self._log.users[begin])
        scores = self._baseline.scores(user, self._known, self._log.times_ms[begin] / 1000.0)
        out = hidden if self._repeats else hidden | self._had[user]
        excluded = np.fromiter(out, np.int64, len(out))
        return best_items(scores, excluded[excluded < len(scores)], k)

    @property
    def memory_bytes(self) -> int:
        """What the baseline holds."""
        return held_bytes(self._baseline)

    def learn(self, step: int) -> None:
        """Returns, dislikes and impressions tell a baseline nothing."""
        begin, end = int(self._log.steps[step]), int(self._log.steps[step + 1])
        user = int(self._log.users[begin])
        items = self._log.items[begin:end]
        self._known = max(self._known, int(items.max()) + 1)
        self._had[user].update(_had(self._log, step, self._counts))
        liked = items[self._wanted[begin:end]]
        if len(liked):
            self._baseline.learn(user, liked, self._log.times_ms[begin] / 1000.0)


def held_bytes(thing: Any) -> int:
    """Bytes of what an object holds: its arrays whole, its containers with all that is in them.

    >>> held_bytes(np.zeros(10, np.float32))
    40
    """
    if isinstance(thing, np.ndarray):
        return int(thing.nbytes)
    if isinstance(thing, dict):
        inside = [part for pair in thing.items() for part in pair]
        return sys.getsizeof(thing) + sum(held_bytes(part) for part in inside)
    if isinstance(thing, list | tuple):
        return sys.getsizeof(thing) + sum(held_bytes(part) for part in thing)
    inside = list(getattr(thing, "__dict__", {}).values())
    return sys.getsizeof(thing) + sum(held_bytes(part) for part in inside)


def prefix(log: EvaluationLog, share: float) -> EvaluationLog:
    """The first steps of a log, about that share of its events, for tuning on."""
    last = max(int(np.searchsorted(log.steps, len(log) * share, side="right")) - 1, 1)
    end = int(log.steps[min(last, len(log.steps) - 1)])
    users, items = log.users[:end], log.items[:end]
    return EvaluationLog(
        users, items, log.types[:end], log.values[:end], log.times_ms[:end],
        log.steps[: last + 1], log.user_ids[: int(users.max(initial=-1)) + 1],
        log.item_ids[: int(items.max(initial=-1)) + 1], log.digest, log.products,
    )  # fmt: skip


def best_items(
    scores: NDArray[np.float32], excluded: NDArray[np.int64], k: int
) -> NDArray[np.int32]:
    """The k highest finite scores without the excluded, best first; ties go to the older item."""
    scores[excluded] = -np.inf
    out = np.empty(k, np.int32)
    return out[: _best(scores, out)]


@kernel
def _best(scores: NDArray[np.float32], out: NDArray[np.int32]) -> int:
    held = 0
    for at in range(len(scores)):
        score = scores[at]
        if not score > -np.inf or (held == len(out) and score <= scores[out[held - 1]]):
            continue
        place = held if held < len(out) else held - 1
        held = min(held + 1, len(out))
        while place > 0 and scores[out[place - 1]] < score:
            out[place] = out[place - 1]
            place -= 1
        out[place] = at
    return held


def _code(name: str) -> int:
    from recsys.event_batch import TYPE_CODES

    return TYPE_CODES[name]
