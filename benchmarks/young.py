"""Lists of young shops: `python -m benchmarks.young DATA`.

Stretches of the public logs in DATA (see `benchmarks.quality`), each as a shop that has just
opened: every method begins with nothing, is tuned on the first tenth, and scored from there on.
Writes young.md beside this file, or into `--out`.
"""

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.quality import ML_100K, ML_SMALL, ONLINE_RETAIL
from models.metrics import gains, interval
from recsys.commands.produce import open_log
from recsys.evaluation_log import EvaluationLog, answers_of, build, read_events
from recsys.evaluation_methods import SERVED, evaluate, method_names
from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig
from streams.events import BehaviourEvent, Product, time_ms

LOGS = {"Online Retail": ONLINE_RETAIL, "ML-latest-small": ML_SMALL, "MovieLens-100k": ML_100K}
CASES = (
    ("Online Retail", "repeat"), ("Online Retail", "new"), ("ML-latest-small", "new"),
    ("MovieLens-100k", "new"),
)  # fmt: skip
WARM_UP = 0.1


@dataclass(frozen=True)
class Log:
    """A whole log in the order of time."""

    events: Sequence[BehaviourEvent]
    products: Mapping[str, Product]

    def stretches(self, count: int, events: int) -> Iterator[EvaluationLog]:
        """So many of them, spread evenly."""
        for begin in np.linspace(0, max(len(self.events) - events, 0), count).astype(int).tolist():
            some = self.events[begin : begin + events]
            items = dict.fromkeys(event.item_id for event in some)
            known = [self.products[item] for item in items if item in self.products]
            yield build(some, products=known)


@cache
def read(folder: Path, words: str) -> Log:
    """The log of `recsys evaluate`'s words."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--catalogue", type=Path)
    parser.add_argument("--map-catalogue", default="")
    given = parser.parse_args(shlex.split(words))
    events, _ = read_events(iter(open_log(folder / given.file, "", None)))
    rows = open_log(folder / given.catalogue, given.map_catalogue, None, catalogue=True)
    products = [product for _, product in rows if isinstance(product, Product)]
    events.sort(key=lambda event: time_ms(event.timestamp))
    return Log(events, {product.item_id: product for product in products})


def gains_of(log: EvaluationLog, method: str, protocol: str) -> np.ndarray:
    """The gain of each answer, shape (answers,)."""
    repeats = protocol == "repeat"
    config = PipelineConfig(rerank=RerankConfig(repeats=repeats))
    outcome = evaluate(method, log, repeats=repeats, warm_up=WARM_UP, config=config)
    return gains(outcome.ranks, 10)


def users_of(stretches: Sequence[EvaluationLog], protocol: str) -> np.ndarray:
    """A number for the user of each answer, shape (answers,); another one in another shop."""
    parts, first = [], 0
    for log in stretches:
        answers = answers_of(log, protocol == "repeat", WARM_UP)
        parts.append(first + log.users[answers.events])
        first += len(log.user_ids)
    return np.concatenate(parts)


def measure(
    logs: Mapping[tuple[str, str], Sequence[EvaluationLog]], methods: Sequence[str]
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """The gains of all answers by case and method; one process a processor."""
    tasks = [
        (case, method, log)
        for case, stretches in logs.items()
        for method in method_names(case[1] == "repeat")
        if method in methods
        for log in stretches
    ]
    found: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {case: {} for case in logs}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        waiting = [pool.submit(gains_of, log, method, case[1]) for case, method, log in tasks]
        done = track(zip(tasks, waiting, strict=True), "young shops", total=len(tasks))
        for (case, method, _), future in done:
            found[case].setdefault(method, []).append(future.result())
    return {
        case: {method: np.concatenate(parts) for method, parts in of_case.items()}
        for case, of_case in found.items()
    }


def table(
    measured: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    users: Mapping[tuple[str, str], np.ndarray],
) -> list[str]:
    """Methods by cases, the served lists first; `users` of the answers as `users_of`."""
    cases = list(measured)
    methods = list(dict.fromkeys(method for case in cases for method in measured[case]))
    means = {
        case: {method: float(each.mean()) for method, each in measured[case].items()}
        for case in cases
    }
    best = {case: max((v, m) for m, v in means[case].items() if m != SERVED) for case in cases}
    head = ["NDCG@10", *(f"{name}, {protocol}" for name, protocol in cases)]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * len(cases)}|"]
    lines.append(f"| answers | {' | '.join(f'{len(measured[c][SERVED]):,}' for c in cases)} |")
    for method in methods:
        cells = [f"{means[c][method]:.4f}" if method in means[c] else "" for c in cases]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    times = [f"{means[c][SERVED] / best[c][0]:.2f} {best[c][1]}" for c in cases]
    lines.append(f"| recsys / the best single one | {' | '.join(times)} |")
    apart = []
    for case in cases:
        difference = measured[case][SERVED] - measured[case][best[case][1]]
        half = interval(difference, users[case])
        apart.append(f"{float(difference.mean()):+.4f} ± {half:.4f}")
    return [*lines, f"| less it | {' | '.join(apart)} |"]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.young", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--events", type=int, nargs="+", default=[3_000, 12_000], help="of a shop")
    parser.add_argument("--shops", type=int, default=6, help="stretches of each log")
    parser.add_argument("--methods", help="as of `recsys evaluate`")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given: Any = parser.parse_args(arguments)
    methods = given.methods.split(",") if given.methods else method_names(repeats=True)
    unknown = set(methods) - set(method_names(repeats=True))
    if unknown or SERVED not in methods or "popularity" not in methods:
        parser.error(f"--methods: {SERVED}, popularity and others of {method_names(repeats=True)}")
    missing = [words for words in LOGS.values() if not (given.data / words.split()[0]).is_file()]
    if missing:
        parser.error(f"{given.data} does not hold {missing[0].split()[0]}")
    lines = [
        "# Young shops",
        "",
        f"Written by `python -m benchmarks.young DATA`: {given.shops} stretches of each log, each",
        "as a shop that has just opened. Every method begins with nothing, is tuned on the first",
        "tenth, and is scored from there on; NDCG@10 over all answers of all stretches, full",
        "ranking, a basket predicted before any of it is learned. The last line has half the width",
        "of the paired difference's 95 % interval over users.",
    ]
    for events in given.events:
        logs = {
            (name, protocol): list(read(given.data, LOGS[name]).stretches(given.shops, events))
            for name, protocol in CASES
        }
        users = {case: users_of(stretches, case[1]) for case, stretches in logs.items()}
        lines += ["", f"## {events:,} events each", "", *table(measure(logs, methods), users)]
    (given.out / "young.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
