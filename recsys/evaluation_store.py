"""What an evaluation finished, kept on disk so that one that was cut off can go on."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from recsys.evaluate import Outcome
from recsys.evaluation_log import EvaluationLog
from recsys.pipeline import PipelineConfig

PACKAGES = ("recsys", "models")


class Store:
    """The outcomes of one log's evaluations: a file a method and lag."""

    def __init__(self, data_dir: Path, log: EvaluationLog, *how: Any) -> None:
        self._folder = data_dir / "evaluations" / _digest(repr((log.digest, *how)).encode())
        self._log = log

    def path(self, name: str, lag_ms: int, config: PipelineConfig | None = None) -> Path:
        """Where a method's outcome is kept; of a pipeline also by its settings, products, code."""
        stem = f"{name.replace(':', '-')}-{lag_ms}"
        if config is not None:
            products = msgspec.json.encode([*self._log.products.values()])
            stem += f"-{_digest(repr(config).encode(), products, _code())}"
        return self._folder / f"{stem}.npz"


def save(path: Path, outcome: Outcome) -> None:
    """Write an outcome, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    told = [outcome.recommend_us, outcome.learn_us, outcome.memory_bytes, outcome.settings]
    np.savez_compressed(
        part, ranks=outcome.ranks, lists=outcome.lists, told=np.array([json.dumps(told)])
    )
    part.replace(path)


def load(path: Path) -> Outcome:
    """Read an outcome."""
    with np.load(path) as kept:
        return Outcome(kept["ranks"], kept["lists"], *json.loads(str(kept["told"][0])))


@cache
def _code() -> bytes:
    """Fingerprint of the code that makes lists: an outcome of other code is another one."""
    root = Path(__file__).parent.parent
    files = sorted(file for name in PACKAGES for file in (root / name).rglob("*.py"))
    return b"".join(hashlib.blake2b(file.read_bytes(), digest_size=8).digest() for file in files)


def _digest(*parts: bytes) -> str:
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()
