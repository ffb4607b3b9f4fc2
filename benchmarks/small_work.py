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


decode = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode


def answer(list_id: str, user_id: str, count: int, ring: Sequence[str]) -> bytes:
    """A result for one event: the newest ten items of the ring."""
    items = [{"item_id": item, "score": 0.5, "rank": 1} for item in ring[-10:]]
    return _encode({"list_id": list_id, "user_id": user_id, "n": count, "items": items})
