"""The user half of a chunk: apply its events in order, and note what items and ranker learn."""

from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from models import history
from models.base import NO_SLOTS
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, WEIGHT_UNIT
from recsys.asked import LISTS_AT_ONCE
from recsys.event_batch import TYPE_CODES, EventBatch
from recsys.ids import key_of
from recsys.item_updates import Example, ItemUpdates
from recsys.looks import Look, Looks
from recsys.user_state import SWEEP_EVENTS, UserState

SPREAD = np.uint64(0xD6E8FEB86659FD93)  # odd, so that no bit is lost


class ChunkLearner:
    """One chunk on its way through the user half."""

    def __init__(
        self, looks: Looks, users: UserState, batch: EventBatch, weights: NDArray[np.float32]
    ) -> None:
        self.looks, self.users, self.batch, self.weights = looks, users, batch, weights
        self._before = newest_before(batch.users)
        count = len(batch)
        self.done = 0
        self.times_s = np.clip(batch.times_ms // 1000, 1, 2**32 - 1).astype(np.uint32)
        fixed = np.rint(weights * WEIGHT_UNIT)
        small = (fixed == 0) & (weights != 0)
        fixed[small] = np.sign(weights[small])
        self.fixed_weights = np.clip(fixed, -32768, 32767).astype(np.int16)
        self.applied = np.zeros(count, np.bool_)
        self.is_new = np.zeros(count, np.bool_)
        self.starts_step = np.zeros(count, np.bool_)
        self.stage = np.zeros(count, np.uint8)
        self.context = np.full((count, CONTEXT_SIZE), NONE, np.int32)
        self.ages_s = np.zeros((count, CONTEXT_SIZE), np.uint32)
        self.who = np.zeros(count, np.uint32)
        self.nth = np.zeros(count, np.uint32)
        self._mixed = self._mix()
        self._shown = batch.types == TYPE_CODES["impression"]
        self.any_shown = bool(self._shown.any())
        self._answers = ~self._shown & (weights != 0)
        self._awaits_look = self._sample()
        self._tokens = self._tokens_of_new()
        self._captured: list[tuple[int, Look]] = []

    def _mix(self) -> NDArray[np.uint64]:
        """A hash of each event, the same in every process; the user is not in it."""
        batch, keys = self.batch, self.users.items.ids.keys
        mixed = keys[batch.items] ^ self.times_s.astype(np.uint64) ^ batch.event_keys
        return np.asarray(mixed * np.uint64(0x9E3779B97F4A7C15), np.uint64)

    def _tokens_of_new(self) -> NDArray[np.uint32]:
        """What items will know each event's user by, where it is their first.

        A hash of it and of who they are: neither alone tells them, and nobody has another's.
        """
        tokens = np.ones(len(self.batch), np.uint32)
        new = np.flatnonzero(self.users.heads["events"][self.batch.users] == 0)
        slots, where = np.unique(self.batch.users[new], return_inverse=True)
        keys = [key_of(self.users.ids.name(slot)) for slot in slots.tolist()]
        mixed = (self._mixed[new] ^ np.array(keys, np.uint64)[where]) * SPREAD
        tokens[new] = np.maximum(mixed >> np.uint64(32), np.uint64(1))
        return tokens

    def _sample(self) -> NDArray[np.bool_]:
        """Events that become examples if they start a step: by their hash, never by load."""
        rank = self.looks.rank
        share = rank.config.train_share(rank.ranker.lists, rank.ranker.looks)
        drawn = (self._mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
        return np.asarray((drawn < share) & (self.weights > 0))

    def apply(self, stop: int, awaited: Slots = NO_SLOTS) -> None:
        """Apply events up to `stop`; users are swept at fixed counts of applied events.

        Those in `awaited` keep their slots: their lists are yet to be made.
        """
        while self.done < stop:
            until_sweep = SWEEP_EVENTS - self.users.events_applied % SWEEP_EVENTS
            end = min(stop, self.done + until_sweep)
            self._apply_sampled(end)
            applied = int(np.count_nonzero(self.applied[self.done : end]))
            self.users.count(applied, self.times_s[self.done : end])
            self.done = end
            if applied == until_sweep:
                self.users.sweep(np.concatenate([awaited, self.batch.users[end:]]))

    def _apply_sampled(self, stop: int) -> None:
        """Apply events up to `stop`, looking at users right before their sampled steps."""
        start = self.done
        while start < stop:
            self._look(start, stop)
            start = self._apply(start, stop)

    def _look(self, start: int, stop: int) -> None:
        """Note what users may choose from at sampled events before which they do nothing more.

        Only those count that are the first of a step.
        """
        ahead = self._awaits_look[start:stop] & (self._before[start:stop] < start)
        events = start + np.flatnonzero(ahead)
        self._awaits_look[events] = False
        heads, slots = self.users.heads, self.batch.users[events]
        first = (heads["events"][slots] == 0) | (heads["last_s"][slots] != self.times_s[events])
        events, slots = events[first], slots[first]
        times_ms = self.batch.times_ms[events]
        for at in range(0, len(events), LISTS_AT_ONCE):
            part = slice(at, at + LISTS_AT_ONCE)
            looks = self.looks.before_steps(
                self.users, slots[part].tolist(), times_ms[part].tolist()
            )
            self._captured += zip(events[part].tolist(), looks, strict=True)

    def _apply(self, start: int, stop: int) -> int:
        """Apply events; where it ended: at the latest before a sampled step that needs a look."""
        users, batch = self.users, self.batch
        count = stop - start
        heads, pages = users.heads, users.pages
        heads.reserve_undo(count)
        pages.reserve(count)
        pages.reserve_undo(3 * count)
        stop = history.apply_events(
            start, stop, users.limits.entries_max, self._awaits_look,
            batch.users, batch.items, batch.types, self.fixed_weights, self.times_s,
            batch.event_keys,
            heads.rows, heads.marks, heads.epoch, heads.undo_slots, heads.undo_rows,
            heads.counters,
            pages.rows, pages.marks, pages.epoch, pages.undo_slots, pages.undo_rows,
            pages.counters, pages.free_stack, users.chain,
            self._tokens, self.applied, self.is_new, self.starts_step, self.stage, self.context,
            self.ages_s, self.who, self.nth,
        )  # fmt: skip
        if self.any_shown or len(users.shown):
            part = slice(start, stop)
            users.see_impressions(
                batch.users[part], batch.items[part], self._shown[part] & self.applied[part],
                self._answers[part] & self.applied[part], self.times_s[part],
            )  # fmt: skip
        return stop

    def updates(self) -> ItemUpdates:
        """What the items must learn of it; duplicates left out."""
        kept = self.applied
        return ItemUpdates(
            self.batch.items[kept], self.batch.types[kept], self.weights[kept],
            self.times_s[kept], self.is_new[kept], self.stage[kept],
            self.context[kept], self.ages_s[kept], self.who[kept], self.nth[kept],
            self._examples(),
        )  # fmt: skip

    def _examples(self) -> list[Example]:
        """The captured lists, with what their step then held."""
        examples = []
        batch = self.batch
        if self._captured:
            self.looks.settle()
        for event, look in sorted(self._captured, key=itemgetter(0)):
            scored = look.scored
            if not self.applied[event] or scored is None:
                continue
            step = (batch.users[event:] == batch.users[event]) & self.applied[event:]
            step &= (self.times_s[event:] == self.times_s[event]) & (self.weights[event:] > 0)
            examples.append(self.looks.rank.example(scored, batch.items[event:][step]))
        return examples


def newest_before(users: Slots) -> NDArray[np.intp]:
    """For each event the one before it of the same user, -1 where it is their first.

    >>> newest_before(np.array([7, 8, 7, 7, 8], np.int32)).tolist()
    [-1, -1, 0, 2, 1]
    """
    before = np.full(len(users), NONE, np.intp)
    order = np.argsort(users, kind="stable")
    same = users[order[1:]] == users[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


def stretches(
    users: Sequence[int], want: Sequence[bool], most: int
) -> Iterator[tuple[int, list[int]]]:
    """Where events may be applied up to, and whose lists, at most so many, are to be made then.

    Whoever is owed a list does nothing more before it is made, so it is as right after their event.

    >>> list(stretches([7, 8, 7, 7, 9], [True, True, False, True, False], 32))
    [(2, [0, 1]), (5, [3])]
    """
    wanted: dict[int, int] = {}
    for event, user in enumerate(users):
        if user in wanted or len(wanted) == most:
            yield event, list(wanted.values())
            wanted.clear()
        if want[event]:
            wanted[user] = event
    yield len(users), list(wanted.values())
