"""Looks: users' candidates right before their steps, for the ranker to learn from."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from recsys.asked import LISTS_AT_ONCE, Moment, moments
from recsys.contexts import Contexts
from recsys.rank import Rank, Scored, ScoredLists
from recsys.user_state import UserState

NEWEST_LISTS = 512  # lists remembered for the step that follows them, some 25 KB each

Gather = Callable[[UserState, Sequence[int], Sequence[int]], Contexts]
Score = Callable[[Contexts], Sequence[ScoredLists]]


@dataclass(slots=True, eq=False)
class Look:
    """A user's candidates as of a moment: a list among some that were scored together."""

    among: ScoredLists | None = None
    number: int = 0

    @property
    def scored(self) -> Scored | None:
        """The candidates; None before they are scored."""
        return None if self.among is None else self.among.to(self.number)


class Looks:
    """Whoever was looked at for a list since their last event need not be looked at again.

    Args:
        rank: scores them.
        gather: what lists are made of, for users (slots) as of some times (ms).
        score: scores lists, in one or several parts.
    """

    def __init__(self, rank: Rank, gather: Gather, score: Score) -> None:
        self.rank = rank
        self._gather, self._score = gather, score
        self._newest: dict[Moment, Look] = {}
        self._awaited: dict[Moment, Look] = {}  # scored when their list is made
        self._unscored: list[Look] = []
        self._contexts: list[Contexts] = []  # of the unscored, in their order

    @contextlib.contextmanager
    def forgotten_on_failure(self) -> Iterator[None]:
        """A chunk that comes to nothing leaves no look that nobody will score."""
        try:
            yield
        except BaseException:
            self._awaited.clear()
            self._take_unscored()
            raise

    def before_steps(
        self, users: UserState, slots: Sequence[int], times_ms: Sequence[int]
    ) -> list[Look]:
        """Users' candidates before a step; all are scored after the chunk's lists and `settle`.

        Those of the newest list that was made or asked for since the user's last event, else new.
        """
        looks, new = [], []
        for number, moment in enumerate(moments(users, slots)):
            look = self._newest.get(moment) or self._awaited.get(moment)
            if look is None:
                look = Look()
                new.append(number)
            looks.append(look)
        if new:
            times = [times_ms[number] for number in new]
            self._contexts.append(self._gather(users, [slots[number] for number in new], times))
            self._unscored += [looks[number] for number in new]
        if len(self._unscored) >= LISTS_AT_ONCE:  # what they are made of takes room
            self.settle()
        return looks

    def settle(self) -> None:
        """Score the new ones, many at once."""
        if self._unscored:
            looks, contexts = self._take_unscored()
            _fill(looks, self._score(Contexts.joined(contexts)))

    def _take_unscored(self) -> tuple[list[Look], list[Contexts]]:
        taken = self._unscored, self._contexts
        self._unscored, self._contexts = [], []
        return taken

    def expect(self, asked: Sequence[Moment | None]) -> None:
        """Lists are asked for, and will be made before this chunk ends."""
        for moment in asked:
            if moment is not None:
                self._awaited.setdefault(moment, Look())

    @property
    def unscored(self) -> int:
        """Candidates that are noted, and not scored yet."""
        return len(self._unscored)

    def score(
        self, contexts: Contexts, asked: Sequence[Moment | None]
    ) -> tuple[Contexts, Sequence[ScoredLists]]:
        """Score lists that were asked for, and remember them for the steps that follow them.

        Where there is room the unscored come along, behind the lists: their contexts, too.
        """
        looks = [self._awaited.pop(moment, Look()) if moment else Look() for moment in asked]
        newest = [(moment, look) for moment, look in zip(asked, looks, strict=True) if moment]
        if self._unscored and len(looks) + len(self._unscored) <= LISTS_AT_ONCE:
            more, theirs = self._take_unscored()
            contexts, looks = Contexts.joined([contexts, *theirs]), looks + more
        scored = self._score(contexts)
        _fill(looks, scored)
        for moment, look in newest:
            while len(self._newest) >= NEWEST_LISTS:
                del self._newest[next(iter(self._newest))]
            self._newest[moment] = look
        return contexts, scored


def _fill(looks: Sequence[Look], scored: Sequence[ScoredLists]) -> None:
    """Give each look its list; the parts are in the looks' order."""
    places = ((part, number) for part in scored for number in range(len(part)))
    for look, (part, number) in zip(looks, places, strict=True):
        look.among, look.number = part, number
