"""Predict, score, learn: what a method's lists are worth, step by step in the order of events.

Every step's list is made before the step is learned, over all items known so far. The served
pipeline goes through the same `recommend` and `learn` as in the worker. Times are the process's
processor time, so that other work on the machine does not count.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.baselines.base import Baseline
from models.kernels import kernel
from models.metrics import MISSED, Lists, Ranks
from recsys.asked import LISTS_AT_ONCE
from recsys.catalogue import Catalogue
from recsys.evaluation_log import Answers, EvaluationLog
from recsys.event_batch import EventBatch
from recsys.factorise import RefitPlan, factorise
from recsys.item_state import ItemState
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_state import StateLimits, UserState
from recsys.warm_up import practise
from streams.events import RankedItem

TIMED_EVENTS = 10_000  # of the log's end, learned once more in chunks to take the time
TIMED_LISTS = 2_000  # of the log's last steps, made once more in company
CHUNK_EVENTS = 1_000
# Who is forgotten after how long is the operator's business: a log of many years keeps its users.
WHOLE_LOG = StateLimits(inactive_days_max=10**6, users_max=2**31)
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
    waiting: dict[int, set[int]] = {}  # items of each user's steps that are not learned yet
    learned, asked_s, learned_s = 0, 0.0, 0.0
    for step in range(count):
        begin = int(log.steps[step])
        while learned < step and log.times_ms[log.steps[learned]] + lag_ms <= log.times_ms[begin]:
            learned_s += _learn(method, log, learned, waiting)
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
            learned_s += _learn(method, log, step, waiting)
            learned = step + 1
        else:
            items = log.items[begin : int(log.steps[step + 1])].tolist()
            waiting.setdefault(user, set()).update(items)
        if progress is not None and step % 256 == 0:
            progress(int(log.steps[step + 1]))
    if progress is not None:
        progress(len(log))
    return Outcome(
        ranks, np.array(lists, np.int32).reshape(-1, k), asked_s / max(len(lists), 1) * 1e6,
        learned_s / max(len(log), 1) * 1e6,
    )  # fmt: skip


def _learn(method: Method, log: EvaluationLog, step: int, waiting: dict[int, set[int]]) -> float:
    started = time.process_time()
    method.learn(step)
    taken = time.process_time() - started
    user = int(log.users[log.steps[step]])
    if user in waiting:
        waiting[user] -= set(log.items[log.steps[step] : log.steps[step + 1]].tolist())
        if not waiting[user]:
            del waiting[user]
    return taken


class BaselineMethod:
    """A baseline over the log: ranks all items that had an event by then."""

    def __init__(self, baseline: Baseline, log: EvaluationLog, repeats: bool) -> None:
        self._baseline, self._log, self._repeats = baseline, log, repeats
        self._had: list[set[int]] = [set() for _ in log.user_ids]
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
        self._had[user].update(items.tolist())
        liked = items[self._wanted[begin:end]]
        if len(liked):
            self._baseline.learn(user, liked, self._log.times_ms[begin] / 1000.0)


class ServedMethod:
    """The pipeline as the worker runs it, one step a chunk, refits of the factors included.

    A product is listed right after its first step: a catalogue that listed it right before would
    tell what comes next. A refit, which runs beside the worker, is in force at once; the time it
    takes is not the pipeline's.
    """

    def __init__(
        self, log: EvaluationLog, config: PipelineConfig, keep: ListKeeper | None = None,
        plan: RefitPlan | None = None,
    ) -> None:  # fmt: skip
        self._log, self._keep = log, keep
        self._plan, self._fitted_at = plan or RefitPlan(), 0
        self._items = ItemState(default_models())
        self._catalogue = Catalogue(self._items)
        self._users = UserState(self._items, WHOLE_LOG)
        self.pipeline = Pipeline(config, self._items, self._catalogue)
        practise(self.pipeline)
        self._slots = np.full(len(log.item_ids), -1, np.int32)
        self._numbers = np.full(max(len(log.item_ids), 1), -1, np.int32)

    def recommend(self, step: int, k: int, hidden: set[int]) -> NDArray[np.int32]:
        """The list as it would be served."""
        begin = int(self._log.steps[step])
        user_id, now_ms = self._log.user_ids[self._log.users[begin]], int(self._log.times_ms[begin])
        user = self._users.find(user_id)
        ranked = self.pipeline.recommend(self._users, user, now_ms, k + len(hidden))
        if self._keep is not None:
            self._keep(step, user_id, now_ms, self.pipeline.explain(ranked))
        numbers = self._numbers[ranked.items]
        if hidden:
            numbers = numbers[~np.isin(numbers, list(hidden))]
        return numbers[:k]

    def odds(self, user_id: str, now_ms: int, k: int) -> dict[int, float]:
        """The items that a user's list may hold now, with how likely each one is."""
        policy = self.pipeline.policy(self._users, self._users.find(user_id), now_ms, k)
        return {int(self._numbers[slot]): odds for slot, odds in policy.odds().items()}

    def learn(self, step: int) -> None:
        """Both halves, user and items."""
        end = int(self._log.steps[step + 1])
        self._learn(int(self._log.steps[step]), end)
        if self._plan.due(end, self._fitted_at):
            self._fitted_at = end
            self._refit()

    def recommend_us(self) -> float:
        """Microseconds a list takes in company, as a worker under load makes it.

        For the users of the log's last steps. Alone, as the log is predicted, one takes about twice
        that.
        """
        later_ms = int(self._log.times_ms[-1]) + 60_000
        newest = self._log.users[self._log.steps[:-1][-TIMED_LISTS:]]
        slots = [self._users.find(self._log.user_ids[user]) for user in newest.tolist()]
        started = time.process_time()
        for at in range(0, len(slots), LISTS_AT_ONCE):
            some = slots[at : at + LISTS_AT_ONCE]
            asked = self.pipeline.ask(self._users, some, [later_ms] * len(some))
            self.pipeline.answer(self._users, asked)
        return (time.process_time() - started) / max(len(slots), 1) * 1e6

    def learn_us(self) -> float:
        """Microseconds an event takes in chunks, as the worker learns: the log's end once more.

        It happens right after the log, for late events would not make the steps that they were.
        """
        first = max(0, len(self._log) - TIMED_EVENTS)
        later_ms = int(self._log.times_ms[-1] - self._log.times_ms[first]) + 60_000
        started = time.process_time()
        for begin in range(first, len(self._log), CHUNK_EVENTS):
            self._learn(begin, min(begin + CHUNK_EVENTS, len(self._log)), later_ms)
        return (time.process_time() - started) / max(len(self._log) - first, 1) * 1e6

    @property
    def users_known(self) -> int:
        """Users that have a state."""
        return len(self._users)

    @property
    def memory_bytes(self) -> int:
        """What the state holds."""
        return int(self._users.memory()["bytes"]) + int(self._items.memory()["bytes"])

    def _refit(self) -> None:
        found = factorise([self._users], len(self._items))
        if found is not None:
            keys = self._items.ids.keys[found.slots]
            self._items.swap_factors(f"als-{self._fitted_at}", keys, found.vectors)

    def _learn(self, begin: int, end: int, later_ms: int = 0) -> None:
        log = self._log
        unknown = log.items[begin:end][self._slots[log.items[begin:end]] < 0]
        fresh = list(dict.fromkeys(unknown.tolist()))
        for number in fresh:
            slot = self._items.slot(log.item_ids[number])
            self._slots[number], self._numbers[slot] = slot, number
        users = [self._users.slot(log.user_ids[user]) for user in log.users[begin:end]]
        times_ms, no_keys = log.times_ms[begin:end] + later_ms, np.zeros(end - begin, np.uint64)
        batch = EventBatch(
            np.array(users, np.int32), self._slots[log.items[begin:end]], log.types[begin:end],
            log.values[begin:end], times_ms, no_keys,
        )  # fmt: skip
        self.pipeline.fold(self.pipeline.learn(self._users, batch))
        for number in fresh:
            product = log.products.get(log.item_ids[number])
            if product is not None:
                self._catalogue.put(product)


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


def names_of(log: EvaluationLog, items: Sequence[int]) -> list[str]:
    """Item ids of item numbers."""
    return [log.item_ids[item] for item in items]
