"""Lists that are asked for: for whom and as of when, and what they are to be made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.columns import NONE
from recsys.contexts import Contexts
from recsys.user_state import UserState
from recsys.variants import Variant

LISTS_AT_ONCE = 32  # are made together

Moment = tuple[int, int, int, int]  # a user as they were once: see `moments`


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """n lists of k items that are wanted."""

    contexts: Contexts
    slots: Sequence[int]  # (n,), the users, -1: a stranger
    names: Sequence[str]  # (n,)
    times_ms: Sequence[int]  # (n,)
    variants: Sequence[Variant]  # (n,)
    moments: Sequence[Moment | None]  # (n,), whom the ranker may learn from; None: a question's
    k: int

    def __len__(self) -> int:
        return len(self.slots)

    @classmethod
    def joined(cls, several: "Sequence[Asked]") -> "Asked":
        """Those of several, at least one, one behind the other; all have the same k."""
        if len(several) == 1:
            return several[0]
        return cls(
            Contexts.joined([asked.contexts for asked in several]),
            [slot for asked in several for slot in asked.slots],
            [name for asked in several for name in asked.names],
            [time_ms for asked in several for time_ms in asked.times_ms],
            [variant for asked in several for variant in asked.variants],
            [moment for asked in several for moment in asked.moments],
            several[0].k,
        )

    def key(self, number: int) -> str:
        """Settles what is tried out in a list."""
        return f"{self.names[number]}/{self.times_ms[number]}"


def moments(users: UserState, slots: Sequence[int]) -> list[Moment]:
    """Users as they are now, told by how many events they had and when the last one was."""
    heads, which = users.heads, id(users)
    events, last_s = heads["events"][slots].tolist(), heads["last_s"][slots].tolist()
    return [
        (which, *moment) if moment[0] != NONE else (which, NONE, 0, 0)
        for moment in zip(slots, events, last_s, strict=True)
    ]
