"""Measure the lists on public logs: `python -m benchmarks.quality DATA [--only NAME ...]`.

DATA holds the logs that `CASES` names, each in a folder: `online-retail` (UCI, CC BY 4.0),
`ml-latest-small` (GroupLens) and `ml-100k` (GroupLens, as RecBole's package has it). Each case is
one `recsys evaluate`, resumed where it was cut off. Writes quality.json, quality.md and pictures
beside this file, or into `--out`; what is not run again keeps its figures.
"""

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import quality_report

ONLINE_RETAIL = "online-retail/events.csv.gz --catalogue online-retail/items.csv.gz"
ML_SMALL = "ml-latest-small/ratings.csv.gz --catalogue ml-latest-small/movies.csv.gz"
ML_100K = (
    "ml-100k/ml-100k.inter --catalogue ml-100k/ml-100k.item"
    " --map-catalogue title=movie_title,category=class"
)
LAGS = "0s,1m,1h,1d"


@dataclass(frozen=True)
class Case:
    """A log with a protocol, and the floor that its figure has to pass.

    `floor` is the best single method of earlier trials; the run's own best baseline counts where it
    is higher. `times` says how far above it the served lists are to be.
    """

    title: str
    log: str
    protocol: str
    times: float | None = None
    floor: float = 0.0
    rest: str = ""

    def command(self, extra: str = "") -> str:
        """What prints the figures again, from within DATA."""
        parts = [f"recsys evaluate {self.log}", self.rest, f"--protocol {self.protocol}", extra]
        return " ".join(part for part in parts if part)


CASES = {
    "ml-small-new": Case("ML-latest-small, new", ML_SMALL, "new", 1.30, 0.0546),
    "retail-repeat": Case(
        "Online Retail, first 120,000, repeats", ONLINE_RETAIL, "repeat", 1.40, 0.0331,
        "--limit 120000",
    ),
    "retail-new": Case(
        "Online Retail, first 120,000, new", ONLINE_RETAIL, "new", 1.12, 0.0240, "--limit 120000"
    ),
    "ml-100k-new": Case("MovieLens-100k, new", ML_100K, "new", 1.15, 0.0991),
    "retail-whole-repeat": Case("Online Retail, whole, repeats", ONLINE_RETAIL, "repeat", 1.40),
    "retail-whole-new": Case("Online Retail, whole, new", ONLINE_RETAIL, "new", 1.12),
    "retail-last": Case(
        "Online Retail, last 20 % of the first 120,000, new", ONLINE_RETAIL, "new", None, 0.0,
        "--limit 120000 --warm-up 0.8",
    ),
}  # fmt: skip
LAGGING = ("retail-repeat", "ml-100k-new")  # cases that are also learned late, served lists only


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("data", type=Path)
    names = [*CASES, *(f"{name}-late" for name in LAGGING)]
    parser.add_argument(
        "--only", nargs="*", choices=names, default=names, metavar="NAME",
        help="of the cases; none: write the report anew",
    )  # fmt: skip
    parser.add_argument("--methods", help="as of `recsys evaluate`")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "quality.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in given.only:
        case = CASES[name.removesuffix("-late")]
        late = name.endswith("-late")
        extra = f"--methods recsys --sync {LAGS}" if late else ""
        if given.methods and not late:
            extra = f"--methods {given.methods}"
        print(name, flush=True)
        numbers = evaluate(case.command(extra), given.data)
        if numbers is None:
            continue
        results[name] = quality_report.rounded({"command": case.command(extra), **numbers})
        path.write_text(json.dumps(results, sort_keys=True) + "\n")
        results = json.loads(path.read_text())  # in one order, whatever was run anew
    quality_report.write(given.out, CASES, results)
    return 0


def evaluate(command: str, folder: Path) -> dict[str, Any] | None:
    """The figures of one run; None, and why, where it failed."""
    words = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "recsys", *words, "--json", "--resume"],
        cwd=folder, stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"{command}: ended with {done.returncode}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    raise SystemExit(main())
