"""What an evaluation finished, kept on disk so that one that was cut off can go on."""

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from recsys.evaluate import Outcome
from recsys.evaluation_log import EvaluationLog
from recsys.evaluation_variants import Entry

ROOT = Path(__file__).parent.parent
SERVED_CODE = ("recsys/**/*.py", "models/**/*.py")
BASELINE_CODE = (
    "models/baselines/*.py", "models/kernels.py", "models/metrics.py", "recsys/evaluate.py",
    "recsys/evaluation_log.py", "recsys/evaluation_methods.py",
)  # fmt: skip
BASELINE_LIBRARIES = ("implicit", "river")


class Store:
    """The outcomes of one log's evaluations: a file a method and lag."""

    def __init__(self, data_dir: Path, log: EvaluationLog, *how: Any) -> None:
        self._folder = data_dir / "evaluations" / _digest(repr((log.digest, *how)).encode())
        self._folder.mkdir(parents=True, exist_ok=True)  # now: a run takes long
        self._log = log

    def path(self, name: str, lag_ms: int, entry: Entry | None = None) -> Path:
        """Where a method's outcome is kept: by its code, and what else its lists follow from.

        Of a baseline the libraries, of a pipeline its settings, the products and the shop's rules.
        """
        if entry is None:
            versions = [f"{each} {_version(each)}".encode() for each in BASELINE_LIBRARIES]
            known = _digest(_code(ROOT, BASELINE_CODE), *versions)
        else:
            products = msgspec.json.encode([*self._log.products.values()])
            rules = repr(entry.rules).encode()
            code = _code(ROOT, SERVED_CODE)
            known = _digest(repr(entry.config).encode(), products, rules, code)
        return self._folder / f"{name.replace(':', '-')}-{lag_ms}-{known}.npz"


def save(path: Path, outcome: Outcome) -> None:
    """Write an outcome, whole or not at all."""
    part = path.with_suffix(".part.npz")
    told = [outcome.recommend_us, outcome.learn_us, outcome.memory_bytes, outcome.settings]
    np.savez_compressed(
        part, ranks=outcome.ranks, lists=outcome.lists, told=np.array([json.dumps(told)])
    )
    part.replace(path)


def load(path: Path) -> Outcome | None:
    """Read an outcome; None where there is none, or a file that was damaged."""
    try:
        with path.open("rb") as file, np.load(file) as kept:
            return Outcome(kept["ranks"], kept["lists"], *json.loads(str(kept["told"][0])))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


@cache
def _code(root: Path, patterns: tuple[str, ...]) -> bytes:
    """Fingerprint of the code that makes lists: an outcome of other code is another one."""
    files = sorted(file for pattern in patterns for file in root.glob(pattern))
    return b"".join(hashlib.blake2b(file.read_bytes(), digest_size=8).digest() for file in files)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"  # River comes with `--group dev`


def _digest(*parts: bytes) -> str:
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()
