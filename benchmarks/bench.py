"""What every benchmark is handed, and what it hands back."""

import itertools
import statistics
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.connection import Connection

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
RIVALS_FOLDER = Path(__file__).resolve().parent.parent / "out" / "rivals"


@dataclass
class Table:
    """One table of the report. `picture` names columns to draw: ("bars"|"lines", x, *ys)."""

    title: str
    columns: Sequence[str]
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    picture: tuple[str, ...] = ()


@dataclass
class Bench:
    """One run of the benchmarks: where the broker is, where files go, how much to do."""

    connection: Connection
    folder: Path
    quick: bool = False
    broker_pids: Sequence[int] = ()  # of a broker that was started here
    _numbers: Any = field(default_factory=itertools.count)

    @property
    def rounds(self) -> int:
        """How many times each contender runs, in turn with the others."""
        return 1 if self.quick else 3

    def size(self, full: int, quick: int) -> int:
        """How much to do."""
        return quick if self.quick else full

    def fresh(self, stem: str) -> str:
        """A name that nothing had before, for topics, groups and folders."""
        return f"{stem}{next(self._numbers)}"

    def rivals_python(self) -> str | None:
        """Python of the venv with the rivals' packages; installed now if it must be.

        None in a quick run: those need no network.
        """
        if self.quick:
            return None
        python = RIVALS_FOLDER / "bin" / "python"
        if not python.exists():
            print(f"installing the rivals into {RIVALS_FOLDER}", flush=True)
            venv.create(RIVALS_FOLDER, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
        if subprocess.run(pip, check=False).returncode != 0:
            print("the rivals' packages could not be installed; they are left out", file=sys.stderr)
            return None
        return str(python)


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number over several runs; what is no number is taken from the last."""
    out: dict[str, Any] = {}
    for name, last in runs[-1].items():
        values = [run[name] for run in runs]
        number = isinstance(last, int | float) and not isinstance(last, bool)
        out[name] = statistics.median(values) if number else last
    return out
