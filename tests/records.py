"""Records as a consumer hands them over, made by hand."""

import json
from collections.abc import Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord

NOW_MS = 1_700_000_000_000
EVENT = {"user_id": "u1", "item_id": "i1", "type": "view", "timestamp": NOW_MS}


def record(
    value: bytes | None,
    key: bytes | None = b"u1",
    topic: str = "recsys.behaviour.v1",
    partition: int = 3,
    offset: int = 17,
    timestamp: int = NOW_MS,
    headers: Sequence[tuple[str, bytes]] = (),
) -> ConsumerRecord:
    """One record of a topic."""
    return ConsumerRecord(
        topic, partition, offset, timestamp, 0, key, value, None, -1, -1, tuple(headers)
    )


def body(**changes: Any) -> bytes:
    """A behaviour event's bytes with some fields changed; None leaves a field out."""
    fields = {name: value for name, value in (EVENT | changes).items() if value is not None}
    return json.dumps(fields).encode()
