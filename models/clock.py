"""The activity clock: how many events had happened by a time, so that decay follows the log.

Half-lives counted in events fit a quiet shop and a busy one, and nothing fades overnight when
nobody shops. An event in order reads the newest count; a late one reads the count of its own
time, between checkpoints that are thinned by half whenever they are full. A time that nobody else
reaches for long was one clock's mistake: it is dropped, or all that follows would count as late.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import kernel

CHECKPOINTS = 256
ALONE_EVENTS = 1_000  # after so many that do not reach them a few newest checkpoints are mistaken
ALONE_MAX = 4  # of more checkpoints none is: those who come late are a log of the past
ERA_HALVINGS = (
    16.0  # renormalise every 16 half-lives: weights stay below 2**16, well inside float32
)


class ActivityClock:
    """Counts events, and remembers when they happened.

    >>> clock = ActivityClock()
    >>> clock.advance(np.array([100, 200, 300, 150], np.uint32)).tolist()
    [1.0, 2.0, 3.0, 1.5]
    >>> clock.now
    4.0
    """

    def __init__(self) -> None:
        self.times_s = np.zeros(CHECKPOINTS, np.uint32)
        self.counts = np.zeros(CHECKPOINTS, np.float64)
        # [0] events, [1] checkpoints held, [2] events between checkpoints
        self.meta = np.array([0.0, 0.0, 1.0])

    @property
    def now(self) -> float:
        """Events so far."""
        return float(self.meta[0])

    def advance(self, times_s: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Count events and return the clock at each one's own time, shape (n,)."""
        out = np.empty(len(times_s), np.float64)
        _advance(times_s, self.times_s, self.counts, self.meta, out)
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything it knows, as copies."""
        return {
            "times_s": self.times_s.copy(), "counts": self.counts.copy(), "meta": self.meta.copy()
        }  # fmt: skip

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.times_s[:] = arrays["times_s"]
        self.counts[:] = arrays["counts"]
        self.meta[:] = arrays["meta"]


@kernel
def _advance(times_s: Any, checkpoints_s: Any, counts: Any, meta: Any, out: Any) -> None:
    for e in range(len(times_s)):
        meta[0] += 1.0
        held = int(meta[1])
        if (
            held > 1 and meta[0] - counts[held - 1] > meta[2] + ALONE_EVENTS
            and checkpoints_s[max(held - 1 - ALONE_MAX, 0)] <= times_s[e]
        ):  # fmt: skip
            while checkpoints_s[held - 1] > times_s[e]:
                held -= 1
            meta[1] = held
        if held == 0 or times_s[e] >= checkpoints_s[held - 1]:
            out[e] = meta[0]
            if held > 0 and times_s[e] == checkpoints_s[held - 1]:
                counts[held - 1] = meta[0]
                continue
            if held > 0 and meta[0] - counts[held - 1] < meta[2]:
                continue
            if held == CHECKPOINTS:
                for j in range(CHECKPOINTS // 2):
                    checkpoints_s[j] = checkpoints_s[2 * j + 1]
                    counts[j] = counts[2 * j + 1]
                held = CHECKPOINTS // 2
                meta[2] *= 2.0
            checkpoints_s[held] = times_s[e]
            counts[held] = meta[0]
            meta[1] = held + 1
        elif times_s[e] <= checkpoints_s[0]:
            out[e] = counts[0]
        else:
            after = int(np.searchsorted(checkpoints_s[:held], times_s[e]))
            low, high = float(checkpoints_s[after - 1]), float(checkpoints_s[after])
            part = (float(times_s[e]) - low) / (high - low)
            out[e] = counts[after - 1] + part * (counts[after] - counts[after - 1])


@kernel
def era_of(clock: float, half_life: float) -> int:
    """Number of the span of 16 half-lives that `clock` lies in; 0 where nothing decays."""
    if half_life <= 0.0:
        return 0
    return int(clock / half_life / ERA_HALVINGS)


@kernel
def weight_at(clock: float, half_life: float, era: int) -> float:
    """What a weight of 1 at `clock` counts in units of `era`: a power of two, never over 2**16.

    Sums in these units decay by themselves: what comes later counts for more. Exponents of late
    events are cut at -64 half-lives.
    """
    if half_life <= 0.0:
        return 1.0
    return float(2.0 ** max(clock / half_life - ERA_HALVINGS * era, -64.0))


@kernel
def era_shift(from_era: int, to_era: int) -> float:
    """Factor that takes a sum from the units of one era to those of a later one."""
    eras = to_era - from_era
    if eras <= 0:
        return 1.0
    if eras > 4:
        return 0.0
    return float(2.0 ** (-ERA_HALVINGS * eras))
