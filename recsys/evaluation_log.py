"""A behaviour log as steps, the way it is predicted and then learned.

A step is all events of one user with one timestamp: a basket is predicted whole before any of it
is learned. Users that share a timestamp come in a seeded random order, for a file's order among
them may tell what nobody could know.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.event_batch import TYPE_CODES
from recsys.rerank import RerankConfig
from streams.codec import DecodeError
from streams.events import BehaviourEvent, Product, time_ms

NOT_ANSWERS = ("return", "dislike", "impression")


@dataclass(frozen=True)
class EvaluationLog:
    """n events in the order they are learned, and s steps over them.

    Users and items are numbered by their first event in this order. A step s is the events
    [steps[s], steps[s + 1]).
    """

    users: NDArray[np.int32]  # (n,)
    items: NDArray[np.int32]  # (n,)
    types: NDArray[np.uint8]  # (n,)
    values: NDArray[np.float32]  # (n,), NaN: none
    times_ms: NDArray[np.int64]  # (n,)
    steps: NDArray[np.int64]  # (s + 1,)
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    digest: str
    products: dict[str, Product] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Answers:
    """The events that lists are scored by, in the order of the log (m of them)."""

    events: NDArray[np.int64]  # (m,)
    steps: NDArray[np.int64]  # (m,)
    user_before: NDArray[np.int32]  # (m,), events of the user before the step
    item_before: NDArray[np.int32]  # (m,), events of the item before the step

    def __len__(self) -> int:
        return len(self.events)


def read_events(
    rows: Iterator[tuple[int, BehaviourEvent | DecodeError]], limit: int | None = None
) -> tuple[list[BehaviourEvent], int]:
    """Up to `limit` events of a log, and how many rows were refused on the way."""
    events: list[BehaviourEvent] = []
    refused = 0
    for _, row in rows:
        if len(events) == limit:
            break
        if isinstance(row, DecodeError):
            refused += 1
        else:
            events.append(row)
    return events, refused


def build(
    events: Sequence[BehaviourEvent], seed: int = 0, products: Sequence[Product] = ()
) -> EvaluationLog:
    """Order events by time, ties by a random number of their user and time, and cut the steps."""
    times = np.array([time_ms(event.timestamp) for event in events], np.int64)
    names = np.array([event.user_id for event in events], object)
    _, who = np.unique(names.astype(str), return_inverse=True)
    pairs, pair = np.unique(np.stack([times, who], axis=1), axis=0, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(pairs))[pair.reshape(-1)]
    order = np.lexsort((np.arange(len(times)), drawn, times))
    users, user_ids = _number([events[at].user_id for at in order])
    items, item_ids = _number([events[at].item_id for at in order])
    drawn = drawn[order]
    starts = np.flatnonzero(np.concatenate([[True], drawn[1:] != drawn[:-1]]))
    types = np.array([TYPE_CODES[events[at].type] for at in order], np.uint8)
    values = np.array(
        [np.nan if events[at].value is None else events[at].value for at in order], np.float32
    )
    digest = hashlib.blake2b(digest_size=16)
    for part in (users, items, types, values, times[order]):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update("\0".join([*user_ids, "", *item_ids]).encode())
    return EvaluationLog(
        users, items, types, values, times[order],
        np.append(starts, len(order)).astype(np.int64) if len(order) else np.zeros(1, np.int64),
        user_ids, item_ids, digest.hexdigest(),
        {product.item_id: product for product in products},
    )  # fmt: skip


def answers_of(log: EvaluationLog, repeats: bool, warm_up: float) -> Answers:
    """What there is to find after the warm-up: wanted items that the log has shown before.

    Where lists hold no repeats, only what its user has not had: an impression before a click is
    none. Returns, dislikes and impressions are learned, never answers.
    """
    wanted = ~np.isin(log.types, [TYPE_CODES[name] for name in NOT_ANSWERS])
    first = _before_steps(log, log.items)
    user_events = _before_steps(log, log.users)
    keep = wanted & (first > 0)
    keep[: int(len(log) * warm_up)] = False
    if not repeats:
        pair = log.users.astype(np.int64) * max(len(log.item_ids), 1) + log.items
        keep &= _before_steps(log, pair, had(log)) == 0
    step = np.repeat(np.arange(len(log.steps) - 1), np.diff(log.steps))
    events = np.flatnonzero(keep)
    return Answers(
        events, step[events], user_events[events].astype(np.int32),
        first[events].astype(np.int32),
    )  # fmt: skip


def had(log: EvaluationLog) -> NDArray[np.bool_]:
    """Which events say that their user had the item, by serving's own types, shape (n,)."""
    return np.isin(log.types, [TYPE_CODES[name] for name in RerankConfig().had_types])


def _before_steps(
    log: EvaluationLog, keys: NDArray[np.integer], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """How many (of the counted) events of each event's key are in earlier steps, shape (n,)."""
    step = np.repeat(np.arange(len(log.steps) - 1), np.diff(log.steps))
    order = np.lexsort((np.arange(len(keys)), keys))
    sorted_keys, sorted_steps = np.asarray(keys)[order], step[order]
    new_key = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
    new_step = new_key | np.concatenate([[True], sorted_steps[1:] != sorted_steps[:-1]])
    count = np.ones(len(keys)) if counted is None else counted[order]
    sums = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    place = np.arange(len(keys))
    start = np.maximum.accumulate(np.where(new_key, place, 0))
    group = np.maximum.accumulate(np.where(new_step, place, 0))
    out = np.empty(len(keys), np.int64)
    out[order] = sums[group] - sums[start]
    return out


def _number(names: Sequence[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    numbers: dict[str, int] = {}
    out = np.fromiter(
        (numbers.setdefault(name, len(numbers)) for name in names), np.int32, len(names)
    )
    return out, tuple(numbers)
