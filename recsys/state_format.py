"""What rows of state have in common in the log and in snapshots: a version byte, and upgrades."""

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from models.audience import Audience
from models.columns import Table

VERSION = 2
OLDEST = 1  # what older workers wrote is read from this version on
# How a row of a version becomes one of the next, where its bytes change: so a newer worker takes
# over what an older one wrote. An older one that meets newer rows says so and ends.
Kind = Literal["lane", "head", "page", "shown", "item", "clock", "ranker"]
UPGRADES: dict[tuple[Kind, int], Callable[[bytes], bytes]] = {
    # Version 2: users have a token, items an audience, empty at first.
    ("head", 1): lambda body: body + struct.pack("<I", zlib.crc32(body) or 1),
    ("item", 1): lambda body: body + bytes(Table(Audience().columns).encoded_bytes),
}

Record = tuple[bytes, bytes | None]


class StateError(Exception):
    """State that cannot be read: an unknown version or bytes of a wrong length."""


def body(kind: Kind, value: bytes) -> bytes:
    """The row in a record's value, as this version writes it."""
    version, body = value[0] if value else -1, value[1:]
    if not OLDEST <= version <= VERSION:
        raise StateError(f"state of version {value[:1].hex() or 'none'}, this reads {VERSION}")
    for older in range(version, VERSION):
        if (upgrade := UPGRADES.get((kind, older))) is not None:
            body = upgrade(body)
    return body


def check_version(snapshot: Mapping[str, Any]) -> None:
    """Raises StateError for a snapshot of another version."""
    version = int(snapshot["version"][0])
    if version != VERSION:
        raise StateError(f"snapshot of version {version}, this reads {VERSION}")


def prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays under names of their own in a larger snapshot."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def unprefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What `prefixed` put there."""
    start = f"{prefix}."
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}
