"""Freshness: from when an event was due to when a list that knows it can be read committed.

The producer keeps its schedule whatever the worker does (no coordinated omission), and every
event counts: one that is answered by a later event's list waited for that one.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import process, workers
from benchmarks.bench import Bench, Table
from benchmarks.event_log import Shop
from streams import cpus, topics

USERS, ITEMS = 5_000, 4_000
BEFORE = 150_000  # events of the shop's past: a ranker learns from every list at first
DRAIN_S, DRAINED_S_MAX = 3.0, 60.0
REQUESTS_PER_S = 50


def run(bench: Bench) -> list[Table]:
    """Each rate in turn against one worker, with 4 and with 24 partitions.

    The worker has the first CPU to itself; the broker, if it was started here, and whoever
    produces and reads have the others. One rate is also measured with everybody on all of them.
    """
    rates = (100, 500, 1_000, 5_000, 20_000) if not bench.quick else (50,)
    rows = []
    for partitions in (4, 24) if not bench.quick else (4,):
        rows += _at_rates(bench, partitions, rates if partitions == 4 else rates[:3])
    notes = [
        "`own lists`: lists written by events. First event: right after the worker's start. "
        "Requests: from a request to its own list, nothing else under way. A rate that is more "
        "than the machine has leaves events unanswered when the reading ends. The worker keeps to "
        "one CPU (`worker.cpus`), the broker, the producer and the reader to the others; in the "
        "rows `anywhere` all are on all of them, as without that setting."
    ]
    return [Table("From event to list, one worker", list(rows[-1]), rows, notes,
                  ("lines", "run", "p50_ms", "p99_ms"))]  # fmt: skip


def _at_rates(bench: Bench, partitions: int, rates: tuple[int, ...]) -> list[dict[str, Any]]:
    prefix = bench.fresh("freshness")
    workers.make_topics(bench, prefix, partitions)
    before = bench.size(BEFORE, 200)
    shop = Shop.until_now(before, users=USERS, items=ITEMS)
    workers.fill_events(bench, prefix, partitions, shop.records())
    with _others_elsewhere(bench) as own:
        worker = workers.WorkerProcess(bench, prefix, partitions, worker={"cpus": own})
        worker.until_ready()
        workers.catch_up([worker], before)
        rows = []
        if not bench.quick:
            time.sleep(DRAIN_S)
            worker.stop()
            worker = workers.WorkerProcess(bench, prefix, partitions, worker={"cpus": own})
            worker.until_ready()
            name = f"first event, {partitions} partitions"
            rows.append(_measure(bench, worker, prefix, partitions, 1, 1.0, name))
        seconds = float(bench.size(15, 3))
        rows.append(_ask(bench, prefix, partitions, seconds))
        for rate in rates:
            name = f"{rate:,}/s, {partitions} partitions"
            rows.append(_measure(bench, worker, prefix, partitions, rate, seconds, name))
            if own and rate == bench.size(1_000, 50):
                with _anywhere(bench, worker):
                    name += ", anywhere"
                    rows.append(_measure(bench, worker, prefix, partitions, rate, seconds, name))
        worker.stop()
    return rows


@contextmanager
def _others_elsewhere(bench: Bench) -> Iterator[list[int]]:
    """Gives the CPU that is left to the worker; none where there is only one, or no such thing."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    own, others = (there[:1], there[1:]) if len(there) > 1 else ([], there)
    _place(bench, others)
    try:
        yield own
    finally:
        _place(bench, there)


@contextmanager
def _anywhere(bench: Bench, worker: workers.WorkerProcess) -> Iterator[None]:
    """Everybody on all CPUs for a while."""
    theirs, own = os.sched_getaffinity(0), os.sched_getaffinity(worker.pid)
    _place(bench, theirs | own)
    cpus.move(worker.pid, theirs | own)
    try:
        yield
    finally:
        _place(bench, theirs)
        cpus.move(worker.pid, own)


def _place(bench: Bench, where: Iterable[int]) -> None:
    """Put the broker, if it was started here, and this process with whom it starts there."""
    for pid in (os.getpid(), *bench.broker_pids) if where else ():
        cpus.move(pid, where)


def _ask(bench: Bench, prefix: str, partitions: int, seconds: float) -> dict[str, Any]:
    found = process.run("requests", {
        "bootstrap": bench.connection.bootstrap, "requests": topics.REQUESTS.name(prefix),
        "lists": topics.RECOMMENDATIONS.name(prefix), "partitions": partitions,
        "rate": REQUESTS_PER_S, "seconds": seconds, "users": USERS,
    })  # fmt: skip
    return _row(f"{REQUESTS_PER_S} requests/s, {partitions} partitions", found)


def _drain(worker: workers.WorkerProcess, events: int) -> None:
    """Wait for a worker that is behind, so that the next rate finds it idle."""
    left = events - worker.laps[-1]["events"]
    until = time.monotonic() + DRAINED_S_MAX
    while left > 0 and time.monotonic() < until:
        time.sleep(1.0)
        left -= worker.lap()["events"]


def _row(name: str, found: dict[str, Any], **more: Any) -> dict[str, Any]:
    quantiles = {key: found[key] for key in ("p50_ms", "p95_ms", "p99_ms", "p99.9_ms")}
    return {
        "run": name, "events": found["events"], "answered": found["answered"],
        "own lists": found["lists"],
        **{key: None if ms is None else round(ms, 1) for key, ms in quantiles.items()}, **more,
    }  # fmt: skip


def _measure(
    bench: Bench, worker: workers.WorkerProcess, prefix: str, partitions: int, rate: float,
    seconds: float, name: str,
) -> dict[str, Any]:  # fmt: skip
    common = {"bootstrap": bench.connection.bootstrap}
    events, lists = topics.BEHAVIOUR.name(prefix), topics.RECOMMENDATIONS.name(prefix)
    reader = process.Contender("list_reader", {**common, "lists": lists, "events": events})
    reader.line()
    worker.lap()
    sent = process.run("open_loop", {
        **common, "topic": events, "partitions": partitions, "rate": rate, "seconds": seconds,
        "users": USERS, "items": ITEMS, "seed": len(worker.laps) + 1,
    })  # fmt: skip
    time.sleep(DRAIN_S)
    lap = worker.lap()
    _drain(worker, sent["events"])
    reader.write(str(sent["from_ms"]))
    found = reader.finish()
    return _row(
        name, found, **{"CPU us/event": round(lap["cpu_us_per_event"]),
                        "producer late ms": round(sent["late_ms_max"])},
    )  # fmt: skip
