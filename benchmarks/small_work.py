"""The small work that every contender of `throughput` does, so that only the wire differs.

Decode a JSON event, keep a ring of the user's last 20 items and a count, answer with a result of
some 400 bytes. The rings are the contender's fault-tolerant state, in its own way.
"""

from collections.abc import Sequence

import msgspec

RING = 20


class Event(msgspec.Struct):
    """What the small work reads of a behaviour event."""

    user_id: str
    item_id: str
    type: str
    timestamp: int


class Item(msgspec.Struct):
    """One line of a result."""

    item_id: str
    score: float
    rank: int


class Answer(msgspec.Struct):
    """A result for one event."""

    list_id: str
    user_id: str
    count: int
    items: list[Item]


decode = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode


def answer(list_id: str, user_id: str, count: int, ring: Sequence[str]) -> bytes:
    """A result for one event: the newest ten items of the ring."""
    items = [Item(item, 0.5, rank) for rank, item in enumerate(ring[-10:], 1)]
    return _encode(Answer(list_id, user_id, count, items))
