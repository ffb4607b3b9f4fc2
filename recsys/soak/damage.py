"""Ways to damage a snapshot, each of which its reader must notice."""

import random
from pathlib import Path

from models import checkpoint
from models.checkpoint import CheckpointError
from recsys import snapshots


def truncate(path: Path, rng: random.Random) -> None:
    """Cut it off anywhere."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def change_version(path: Path, _rng: random.Random) -> None:
    """Write it as of the next version."""
    try:
        content = checkpoint.load(path, kind=snapshots.KIND, version=snapshots.VERSION)
    except CheckpointError:  # it is broken from the last time: its lane has written nothing since
        return
    checkpoint.save(path, content, kind=snapshots.KIND, version=snapshots.VERSION + 1)


WAYS = (truncate, flip, change_version)
