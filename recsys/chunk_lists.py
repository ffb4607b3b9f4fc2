"""A chunk that was learned, with the lists right after its events: made ones, and those that wait.

Lists that wait can be made with those of other chunks, in one pass.
"""

from collections.abc import Sequence

from recsys.asked import LISTS_AT_ONCE, Asked
from recsys.item_updates import ItemUpdates
from recsys.learn import ChunkLearner
from recsys.ranked import Ranked
from recsys.user_state import UserState


class ChunkLists:
    """The lists of a chunk's events, None where none was wanted."""

    def __init__(self, users: UserState, learner: ChunkLearner, count: int) -> None:
        self.users, self.learner = users, learner
        self.lists: list[Ranked | None] = [None] * count
        self.lists_s = 0.0  # spent on them so far
        self._asked: list[Asked] = []
        self._events: list[int] = []  # whose lists wait, as they were asked for

    def wait(self, asked: Asked, events: Sequence[int]) -> None:
        """Lists are asked for, each right after an event."""
        self._asked.append(asked)
        self._events += events

    @property
    def waiting(self) -> int:
        """Lists that are not made yet, `LISTS_AT_ONCE` at most."""
        return len(self._events)

    @property
    def room(self) -> int:
        """How many more may wait."""
        return LISTS_AT_ONCE - len(self._events)

    def asked(self) -> Asked:
        """What waits; at least one list does."""
        return Asked.joined(self._asked)

    def take(self, ranked: Sequence[Ranked], seconds: float) -> None:
        """The lists that waited, and what making them took."""
        for event, each in zip(self._events, ranked, strict=True):
            self.lists[event] = each
        self.lists_s += seconds
        self._asked.clear()
        self._events.clear()

    def updates(self) -> ItemUpdates:
        """What the items must learn of the chunk; once no list waits."""
        return self.learner.updates()


def passes(chunks: Sequence[ChunkLists]) -> list[list[ChunkLists]]:
    """Those for which lists wait, in groups with `LISTS_AT_ONCE` of them at most."""
    groups: list[list[ChunkLists]] = []
    room = 0
    for chunk in chunks:
        if not chunk.waiting:
            continue
        if chunk.waiting > room:
            groups.append([])
            room = LISTS_AT_ONCE
        groups[-1].append(chunk)
        room -= chunk.waiting
    return groups
