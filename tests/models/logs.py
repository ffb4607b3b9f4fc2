"""Item events for tests of models."""

import numpy as np

from models.base import ItemEvents, Query
from models.columns import Table

WIDTH = 16


def item_events(
    items, contexts=None, weights=None, clock=None, times_s=None, is_new=None, users=None
):
    """Events from plain lists; a context is a list of slots, newest first."""
    count = len(items)
    context = np.full((count, WIDTH), -1, np.int32)
    for row, before in enumerate(contexts or []):
        context[row, : len(before)] = before
    return ItemEvents(
        np.array(items, np.int32),
        np.full(count, 3, np.uint8),
        np.array(weights if weights is not None else [1.0] * count, np.float32),
        np.array(times_s if times_s is not None else range(100, 100 + count), np.uint32),
        np.array(clock if clock is not None else range(1, count + 1), np.float64),
        np.array(is_new if is_new is not None else [True] * count),
        np.zeros(count, np.uint8),
        context,
        np.zeros((count, WIDTH), np.uint32),
        np.array(users if users is not None else [0] * count, np.uint32),
        np.arange(count, dtype=np.uint32),
    )


def query(items, weights=None, clock=0.0, n_items=1000):
    """Whom to recommend for."""
    return Query(
        np.array(items, np.int32),
        np.array(weights if weights is not None else [1.0] * len(items), np.float32),
        np.zeros(len(items), np.float32),
        float(clock),
        np.ones(n_items, np.bool_),
        n_items,
    )


def table_of(model, size=50):
    """A table for a model with so many items."""
    table = Table(model.columns)
    table.extend(size)
    return table


def walks(count, items=40, users=8, seed=0):
    """Users walking among items: (items, contexts) as `item_events` takes them."""
    rng = np.random.default_rng(seed)
    past = [[] for _ in range(users)]
    slots, contexts = [], []
    for _ in range(count):
        user = int(rng.integers(users))
        item = int((user * 3 + rng.integers(6)) % items)
        slots.append(item)
        contexts.append([other for other in past[user] if other != item][:WIDTH])
        past[user] = [item, *(other for other in past[user] if other != item)]
    return slots, contexts
