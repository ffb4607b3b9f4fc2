"""How many lists a worker may write now, so that overload is harmless."""

import time

ROUND_LISTS_S = 0.1  # a round spends no longer on lists, however many wait
BEHIND_S = 1.0  # lists of that long: where more events wait, none has its own


class ListBudget:
    """How many lists may be written now: a steady rate, and a bound on the time of one round.

    The bound makes overload harmless: where lists cost more than the machine has, rounds stay
    short, learning goes on, and users' lists are shared or wait. The more events wait to be
    learned, the fewer lists: an answer is of little use whose user's next events lie there already.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._held = per_s / 2
        self._at = time.monotonic()
        self._cost_s = 0.0005  # of one list, as measured lately
        self._share = 1.0  # of the budget: the less, the more events wait

    def round_begins(self, behind: int, lanes: int) -> None:
        """One of so many lanes begins a round, behind which so many of its events wait."""
        self._share = max(0.0, 1.0 - behind * lanes / max(1.0, self._per_s * BEHIND_S))

    def available(self) -> int:
        """Lists that may be written now."""
        now = time.monotonic()
        self._held = min(self._per_s / 2, self._held + (now - self._at) * self._per_s)
        self._at = now
        return max(0, int(min(self._held, ROUND_LISTS_S / self._cost_s) * self._share))

    def spend(self, count: int) -> None:
        """That many are written; a debt is paid back before the next."""
        self._held -= count

    def took(self, count: int, seconds: float) -> None:
        """So long that many have taken."""
        if count:
            self._cost_s += 0.1 * (seconds / count - self._cost_s)
