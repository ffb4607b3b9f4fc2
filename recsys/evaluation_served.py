"""The served pipeline as a method of an evaluation.

It goes through the same `recommend` and `learn` as in the worker. Times are the process's processor
time, so that other work on the machine does not count.
"""

import time
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from recsys.asked import LISTS_AT_ONCE
from recsys.catalogue import Catalogue
from recsys.evaluate import ListKeeper
from recsys.evaluation_log import EvaluationLog
from recsys.event_batch import EventBatch
from recsys.factorise import RefitPlan, factorise
from recsys.item_state import ItemState
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.rules import Rule, Rules
from recsys.user_state import StateLimits, UserState
from recsys.warm_up import practise

TIMED_EVENTS = 10_000  # of the log's end, learned in chunks to take the time
TIMED_LISTS = 2_000  # of the log's last steps, made once more in company
CHUNK_EVENTS = 1_000
# Who is forgotten after how long is the operator's business: a log of many years keeps its users.
WHOLE_LOG = StateLimits(inactive_days_max=10**6, users_max=2**31)


class ServedMethod:
    """The pipeline as the worker runs it, one step a chunk, refits of the factors included.

    A product is listed right after its first step: a catalogue that listed it right before would
    tell what comes next. A refit, which runs beside the worker, is in force at once; the time it
    takes is not the pipeline's.
    """

    def __init__(
        self, log: EvaluationLog, config: PipelineConfig, keep: ListKeeper | None = None,
        plan: RefitPlan | None = None, rules: Sequence[Rule] = (),
    ) -> None:  # fmt: skip
        self._log, self._keep = log, keep
        self._plan, self._fitted_at = plan or RefitPlan(), 0
        self._items = ItemState(default_models())
        self._catalogue = Catalogue(self._items)
        self._users = UserState(self._items, WHOLE_LOG)
        self.pipeline = Pipeline(config, self._items, self._catalogue)
        self.pipeline.rules = Rules(rules)  # of its own: it keeps what they say of its items
        practise(self.pipeline)
        self._slots = np.full(len(log.item_ids), -1, np.int32)
        self._numbers = np.full(max(len(log.item_ids), 1), -1, np.int32)

    def recommend(self, step: int, k: int, hidden: set[int]) -> NDArray[np.int32]:
        """The list as it would be served."""
        begin = int(self._log.steps[step])
        user_id, now_ms = self._log.user_ids[self._log.users[begin]], int(self._log.times_ms[begin])
        user = self._users.find(user_id)
        ranked = self.pipeline.recommend(self._users, user, now_ms, k + len(hidden))
        numbers = self._numbers[ranked.items]
        seen = np.flatnonzero(~np.isin(numbers, list(hidden)))[:k]
        if self._keep is not None:
            items = self.pipeline.explain(ranked)
            shown = [replace(items[at], rank=rank) for rank, at in enumerate(seen.tolist(), 1)]
            self._keep(step, user_id, now_ms, shown)
        return numbers[seen]

    def odds(self, user_id: str, now_ms: int, k: int) -> dict[int, float]:
        """The items that a user's list may hold now, with how likely each one is."""
        policy = self.pipeline.policy(self._users, self._users.find(user_id), now_ms, k)
        return {int(self._numbers[slot]): odds for slot, odds in policy.odds().items()}

    def learn(self, step: int) -> None:
        """Both halves, user and items."""
        end = int(self._log.steps[step + 1])
        self._learn(int(self._log.steps[step]), end)
        self._refit_if_due(end)

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
        """Microseconds an event takes in chunks, as the worker learns, at the log's end.

        A second pipeline learns the log for it. To learn events once more would be too cheap: an
        item that its user has had becomes no list for the ranker.
        """
        config, rules = self.pipeline.config, self.pipeline.rules.rules
        other = ServedMethod(self._log, config, plan=self._plan, rules=rules)
        first, taken_s, events = len(self._log) - TIMED_EVENTS, 0.0, 0
        for begin in range(0, len(self._log), CHUNK_EVENTS):
            end = min(begin + CHUNK_EVENTS, len(self._log))
            started = time.process_time()
            other._learn(begin, end)
            if begin >= first:
                taken_s += time.process_time() - started
                events += end - begin
            other._refit_if_due(end)
        return taken_s / max(events, 1) * 1e6

    @property
    def users_known(self) -> int:
        """Users that have a state."""
        return len(self._users)

    @property
    def memory_bytes(self) -> int:
        """What the state holds."""
        return int(self._users.memory()["bytes"]) + int(self._items.memory()["bytes"])

    def _refit_if_due(self, end: int) -> None:
        if not self._plan.due(end, self._fitted_at):
            return
        self._fitted_at = end
        found = factorise([self._users], len(self._items))
        if found is not None:
            keys = self._items.ids.keys[found.slots]
            version = f"als-{self._fitted_at}"
            self._items.swap_factors(version, keys, found.vectors, found.weights)

    def _learn(self, begin: int, end: int) -> None:
        log = self._log
        unknown = log.items[begin:end][self._slots[log.items[begin:end]] < 0]
        fresh = list(dict.fromkeys(unknown.tolist()))
        for number in fresh:
            slot = self._items.slot(log.item_ids[number])
            self._slots[number], self._numbers[slot] = slot, number
        users = [self._users.slot(log.user_ids[user]) for user in log.users[begin:end]]
        times_ms, no_keys = log.times_ms[begin:end], np.zeros(end - begin, np.uint64)
        batch = EventBatch(
            np.array(users, np.int32), self._slots[log.items[begin:end]], log.types[begin:end],
            log.values[begin:end], times_ms, no_keys,
        )  # fmt: skip
        self.pipeline.fold(self.pipeline.learn(self._users, batch))
        for number in fresh:
            product = log.products.get(log.item_ids[number])
            if product is not None:
                self._catalogue.put(product)
