"""VSKNN: who was alike lately, and what they had (Ludewig and Jannach 2018; Kersbergen 2022)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import kernel

TOUCHES = 128  # users remembered of an item
HELD = 64  # newest items of a user that make up their session


class VectorSessionKnn:
    """The newest users of this user's newest items, weighted by what they share.

    Args:
        neighbours: users whose items are summed up.
        read_items: newest items that speak for the user.
        read_decay: weight of the n-th newest is this to the power n.
        idf_power: how much rare items count more.
    """

    def __init__(
        self, n_users: int, n_items: int, *, neighbours: float = 64, read_items: float = 16,
        read_decay: float = 0.85, idf_power: float = 0.5,
    ) -> None:  # fmt: skip
        self._newest = np.full((n_users, HELD), -1, np.int32)
        self._held = np.zeros(n_users, np.int64)
        self._touched_by = np.full((n_items, TOUCHES), -1, np.int32)
        self._touches = np.zeros(n_items, np.int64)
        self._likeness = np.zeros(n_users, np.float32)
        self._neighbours, self._read_items = int(neighbours), int(read_items)
        self._read_decay, self._idf_power = read_decay, idf_power

    def scores(self, user: int, known: int, now_s: float) -> NDArray[np.float32]:
        """Sums of the neighbours' likeness over their items."""
        out = np.zeros(known, np.float32)
        _sessions(
            user, self._newest, self._held, self._touched_by, self._touches, self._likeness,
            self._neighbours, self._read_items, self._read_decay, self._idf_power, out,
        )  # fmt: skip
        return out

    def learn(self, user: int, items: NDArray[np.int32], now_s: float) -> None:
        """The step joins the user's session and the items' newest users."""
        for item in items.tolist():
            self._newest[user, self._held[user] % HELD] = item
            self._held[user] += 1
            self._touched_by[item, self._touches[item] % TOUCHES] = user
            self._touches[item] += 1


@kernel
def _sessions(
    user: int, newest: Any, held: Any, touched_by: Any, touches: Any, likeness: Any,
    neighbours: int, read_items: int, read_decay: float, idf_power: float, out: Any,
) -> None:  # fmt: skip
    room = newest.shape[1]
    met = np.empty(read_items * touched_by.shape[1], np.int32)
    count = 0
    for at in range(min(held[user], read_items)):
        item = newest[user, (held[user] - 1 - at) % room]
        weight = np.float32(read_decay**at / (1.0 + np.log(1.0 + touches[item])) ** idf_power)
        for j in range(min(touches[item], touched_by.shape[1])):
            other = touched_by[item, j]
            if other == user:
                continue
            if likeness[other] == 0.0:
                met[count] = other
                count += 1
            likeness[other] += weight
    least = np.float32(0.0)
    if count > neighbours:
        least = np.sort(likeness[met[:count]])[count - neighbours]
    for at in range(count):
        other = met[at]
        if likeness[other] >= least:
            for j in range(min(held[other], room)):
                item = newest[other, j]
                if item < len(out):
                    out[item] += likeness[other]
    for at in range(count):
        likeness[met[at]] = 0.0
