"""The model code alone at growing catalogues, beside numpy and implicit; and nearest vectors."""

import time
from typing import Any

import numpy as np

from benchmarks import process
from benchmarks.bench import Bench, Table
from models.index import ExactIndex, HnswIndex

DIM = 64


def run(bench: Bench) -> list[Table]:
    """Learn and recommend by items; ANN against exact by vectors."""
    sizes = (1_000, 4_000, 10_000, 100_000, 1_000_000) if not bench.quick else (300,)
    rows = []
    for items in sizes:
        found = process.run("kernels", {
            "items": items, "users": bench.size(20_000, 100), "events": bench.size(20_000, 400),
            "past": bench.size(300_000, 400), "lists": bench.size(1_280, 20),
            "implicit": items <= 100_000,
            "river": items <= 10_000,
        })  # fmt: skip
        rows.append({"items": items, **{name: round(value, 2) for name, value in found.items()}})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = _cells(bench)
    nearest = [
        _nearest(count, bench)
        for count in ((10_000, 100_000, 1_000_000) if not bench.quick else (500,))
    ]
    return [
        Table("Model code alone, CPU on one core", columns, rows,
              ["Lists: in company of 32, as a worker under load makes them, and alone; factors are "
               "of a refit of 300,000 events. implicit: item kNN (K=32) fitted to the same events, "
               "one list at a time; numpy: factors @ user, then argpartition: no candidates, no "
               "ranking. River: FunkMF, which predicts one item at a time."],
              ("lines", "items", "list us", "numpy list us", "implicit list us")),
        Table("Candidates by factors, 50 of them, CPU on one core", list(cells[0]), cells,
              ["Factors of an ALS fit to a synthetic shop, questions of its users folded in."]),
        Table("Nearest vectors, 64 numbers each, 100 of them", list(nearest[0]), nearest,
              ["Searched while vectors are replaced: a put of 10 after every 10 searches."]),
    ]  # fmt: skip


def _cells(bench: Bench) -> list[dict[str, Any]]:
    """What the factor and the profile source search, against exact products."""
    rows = []
    for items in (10_000, 100_000, 1_000_000) if not bench.quick else (2_000,):
        found = process.run("cells", {
            "items": items, "users": bench.size(40_000, 200), "questions": bench.size(100, 5),
            "events": bench.size(max(1_000_000, 3 * items), 10_000),
        })  # fmt: skip
        for kind, figures in found.items():
            rounded = {name: round(value, 3) for name, value in figures.items()}
            rows.append({"items": items, "by": kind, **rounded})
    return rows


def _nearest(count: int, bench: Bench) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(200, DIM))

    def draw(size: int) -> Any:
        noise = rng.normal(size=(size, DIM)) * 0.5
        return (centres[rng.integers(200, size=size)] + noise).astype(np.float32)

    exact, graph = ExactIndex(DIM), HnswIndex(DIM)
    vectors = draw(count)
    exact.put(np.arange(count), vectors)
    started = time.perf_counter()
    graph.put(np.arange(count), vectors)
    built = time.perf_counter() - started
    queries, k, hits = draw(bench.size(200, 20)), min(100, count), 0
    spent = {"exact": 0.0, "graph": 0.0, "put": 0.0}
    for at, query in enumerate(queries):
        started = time.perf_counter()
        truth, _ = exact.search(query, k)
        middle = time.perf_counter()
        found, _ = graph.search(query, k)
        spent["exact"] += middle - started
        spent["graph"] += time.perf_counter() - middle
        hits += len(np.intersect1d(truth[:50], found[:50]))
        if at % 10 == 9:
            ids, fresh = rng.integers(count, size=10), draw(10)
            exact.put(ids, fresh)
            started = time.perf_counter()
            graph.put(ids, fresh)
            spent["put"] += time.perf_counter() - started
    return {
        "vectors": count, "graph built s": round(built, 2),
        "exact us": round(1e6 * spent["exact"] / len(queries)),
        "graph us": round(1e6 * spent["graph"] / len(queries)),
        "replace us": round(1e6 * spent["put"] / len(queries)),
        "recall@50": round(hits / (50 * len(queries)), 3),
    }  # fmt: skip
