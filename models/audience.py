"""The audience: who came to an item last, by a token a user, and how far they had come.

Lists of neighbours forget all but the strongest pairs. Two items' newest users tell of the others,
without a place a pair: whoever is in both audiences went from one to the other, and the number of
their events between the two says how directly.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import ItemEvents, Query, Scores, empty_answer, no_carriers
from models.columns import Column, Slots, Table
from models.kernels import fetch, kernel

HELD = 16  # users of an item
READ_ITEMS = 16  # of the user's newest items, whose audiences are company
FADING = 0.85  # the n-th of them speaks this to the power n as loud
TABLE_SIZE = 1_024  # of the company by token, a power of two over 2 * HELD * READ_ITEMS
SIEVE_BITS = 12  # of the hash, by which most who are not in the company are told at once
AHEAD = 6  # rows that are asked of memory before they are read
FEATURES = ("met", "met:any", "met:closest", "met:often", "met:after")
STRANGER = 0  # the token of nobody


class Audience:
    """The newest users of each item; no source of candidates, it only describes them."""

    name = "audience"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("user", "<u4", HELD),
            Column("place", "<u4", HELD),  # which of the user's events it was
            Column("came", "<u4"),  # users put into the ring so far
        )

    def learn(self, table: Table, events: ItemEvents) -> None:
        """Note who came; one who is there already moves on to their newest event."""
        liked = (events.weights > 0) & (events.users != STRANGER)
        items = events.items[liked]
        table.touch(items)
        _learn(table.rows, items, events.users[liked], events.places[liked])

    def forget(self, table: Table, users: NDArray[np.uint32]) -> None:
        """Take users out of every audience; their places stay empty until others come."""
        gone = np.isin(table["user"][: table.size], users[users != STRANGER])
        rows = np.flatnonzero(gone.any(axis=1)).astype(np.int32)
        if len(rows):
            table.touch(rows)
            table["user"][rows] = np.where(gone[rows], STRANGER, table["user"][rows])

    def recommend(self, table: Table, query: Query) -> tuple[Slots, Scores]:
        """Nothing."""
        return empty_answer()

    def carriers(self, table: Table, query: Query, items: Slots) -> Slots:
        """None."""
        return no_carriers(items)


@kernel
def _learn(rows: Any, items: Any, users: Any, places: Any) -> None:
    for e in range(len(items)):
        row = rows[items[e]]
        at = HELD
        for n in range(min(int(row.came), HELD)):
            if row.user[n] == users[e]:
                at = n
        if at == HELD:
            at = int(row.came) % HELD
            row.came += 1
        row.user[at], row.place[at] = users[e], places[e]


@kernel
def company(
    rows: Any, past: Any, me: int, tokens: Any, loud: Any, at_place: Any, taken: Any
) -> int:
    """Who came to the past items (newest first): a table by token, of how loud each one speaks.

    `tokens` is zero before, and where `taken` says after; returns how many those are.
    """
    count = 0
    weight = 1.0
    for m in range(min(len(past), READ_ITEMS)):
        if not 0 <= past[m] < len(rows):
            continue
        row = rows[past[m]]
        held = min(int(row.came), HELD)
        share = np.float32(weight / np.sqrt(1.0 + held))
        for n in range(held):
            token = row.user[n]
            nobody = token == STRANGER
            if token == me or nobody:
                continue
            at = find(tokens, token)
            if tokens[at] == STRANGER:
                tokens[at], loud[at], at_place[at] = token, np.float32(0.0), row.place[n]
                taken[count] = at
                count += 1
            loud[at] += share
        weight *= FADING
    return count


@kernel
def hashed(token: int) -> Any:
    """A number of 64 bits for a token, the upper ones as good as random (Knuth)."""
    return np.uint64(token) * np.uint64(0x9E3779B97F4A7C15)


@kernel
def sieve(token: int) -> Any:
    """Which place of a sieve a token falls on."""
    return hashed(token) >> np.uint64(64 - SIEVE_BITS)


@kernel
def find(tokens: Any, token: int) -> int:
    """Where a token lies in a table, or the empty place where it would (linear probing)."""
    mask = len(tokens) - 1
    at = int(hashed(token) >> np.uint64(40)) & mask
    while tokens[at] != STRANGER and tokens[at] != token:
        at = (at + 1) & mask
    return at


@kernel
def describe_all(
    rows: Any, items: Any, starts: Any, past: Any, past_starts: Any, mine: Any, out: Any
) -> None:
    """FEATURES of some lists' items, whose users had the `past` ones and have tokens `mine`.

    Of the users who came to a candidate and to the past items: how near the two lie in their
    sequences; how many they are; the nearest; those counted more who share much; and those who
    came to the candidate later.
    """
    tokens, loud = np.zeros(TABLE_SIZE, np.uint32), np.empty(TABLE_SIZE, np.float32)
    at_place, taken = np.empty(TABLE_SIZE, np.uint32), np.empty(TABLE_SIZE, np.int64)
    likely, few = np.zeros(1 << SIEVE_BITS, np.uint8), np.empty(HELD + 1, np.int64)
    for number in range(len(mine)):
        mine_past = past[past_starts[number] : past_starts[number + 1]]
        count = company(rows, mine_past, mine[number], tokens, loud, at_place, taken)
        if count == 0:
            continue
        for n in range(count):
            likely[sieve(tokens[taken[n]])] = 1
        for row_at in range(starts[number], starts[number + 1]):
            fetch(rows, items[min(row_at + AHEAD, len(items) - 1)], 0, rows.itemsize)
            if items[row_at] >= len(rows):
                continue
            row, features = rows[items[row_at]], out[row_at]
            held, left = min(int(row.came), HELD), np.uint32(0)
            share = np.float32(1.0 / np.sqrt(1.0 + held))
            for n in range(held):
                few[left] = n
                left += np.uint32(likely[sieve(row.user[n])])
            for n in few[:left]:
                at = find(tokens, row.user[n])
                if tokens[at] == STRANGER:
                    continue
                gap = np.float32(np.int64(row.place[n]) - np.int64(at_place[at]))
                voice, far = loud[at], abs(gap)
                near = share * voice / (np.float32(1.0) + far)
                features[0] += near
                features[1] += share * voice
                features[2] = max(features[2], voice / (np.float32(1.0) + np.float32(0.1) * far))
                features[3] += share * voice * voice / (np.float32(1.0) + np.float32(0.2) * far)
                if gap > 0:
                    features[4] += near
        for n in range(count):
            likely[sieve(tokens[taken[n]])] = 0
            tokens[taken[n]] = STRANGER


def described(
    table: Table, items: Slots, starts: NDArray[np.int64], past: Slots,
    past_starts: NDArray[np.int64], tokens: NDArray[np.uint32], out: NDArray[np.float32],
) -> None:  # fmt: skip
    """`describe_all` from a table; `out` has shape (items, len(FEATURES)) and is zero."""
    describe_all(table.rows, items, starts, past, past_starts, tokens, out)
