"""Local snapshots of lanes: what the lane asks for, kept by `models.checkpoint`.

A snapshot is a shortcut, never the truth: one that is damaged, of another version or not ours is
refused and told, and the lane reads its whole log instead.
"""

import json
from pathlib import Path
from typing import Any

import structlog

from models import checkpoint
from models.checkpoint import CheckpointError

log = structlog.get_logger(__name__)

KIND = "lane"
VERSION = 1
_META = "snapshot.meta"


class StateSnapshots:
    """Writes all or nothing; reads what can be believed."""

    def write(self, path: Path, snapshot: dict[str, Any], meta: dict[str, Any]) -> None:
        """Write a snapshot and what it reflects. Raises OSError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {**snapshot, _META: [json.dumps(meta)]}
        checkpoint.save(path, content, kind=KIND, version=VERSION)

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The snapshot and what it reflects; None where there is none to believe."""
        try:
            content = dict(checkpoint.load(path, kind=KIND, version=VERSION))
            return content, json.loads(content.pop(_META)[0])
        except FileNotFoundError:
            return None
        except (CheckpointError, OSError, KeyError, IndexError, ValueError) as error:
            log.warning("snapshot.refused", path=str(path), error=str(error))
            return None
