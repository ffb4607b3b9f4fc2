"""The whole recommender, one worker, catching up on a backlog: events learned, lists written.

A backlog of users who are all active is overload: learning skips nothing, lists coalesce. A shop's
ranker learns from most of its first events, so one with a past behind it is measured as well.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from benchmarks import workers
from benchmarks.bench import Bench, Table
from benchmarks.event_log import Shop

PARTITIONS = 4


class Log(NamedTuple):
    """A backlog: `past` of its events are learned before the others are measured."""

    name: str
    past: int
    events: int
    records: Iterator[tuple[bytes, bytes]]


def logs(bench: Bench) -> Iterator[Log]:
    """A real log, several times for it is short, synthetic shops, and one with a past."""
    few, many = bench.size(20_000, 600), bench.size(40_000, 600)
    for _ in range(bench.size(5, 1)):
        yield Log("Online Retail sample", 0, few, workers.sample_records(few))
    for users in (1_000, 10_000, 1_000_000)[: bench.size(3, 1)]:
        yield Log(f"synthetic, {users:,} users", 0, many, Shop(many, users).records())
    past = bench.size(150_000, 0)
    name = f"synthetic, 5,000 users, after {past:,} events"
    yield Log(name, past, many, Shop(past + many, 5_000).records())


def run(bench: Bench) -> list[Table]:
    """Catch up on each log with a fresh worker."""
    rows = []
    for name, past, events, records in logs(bench):
        prefix = bench.fresh("recommender")
        workers.make_topics(bench, prefix, PARTITIONS)
        workers.fill_events(bench, prefix, PARTITIONS, records)
        worker = workers.WorkerProcess(bench, prefix, PARTITIONS)
        worker.until_ready()
        workers.catch_up([worker], past)
        before, known = len(worker.laps), worker.events
        workers.catch_up([worker], past + events - known)
        measured = worker.laps[before:]
        worker.stop()
        laps = [lap for lap in measured if lap["events"]]
        learned = sum(lap["events"] for lap in laps)
        busy_s = sum(lap["seconds"] for lap in laps)
        lists = sum(lap["lists"] for lap in measured)
        cpu_us = sum(lap["cpu_us_per_event"] * lap["events"] for lap in laps)
        rows.append({
            "log": name, "runs": 1,
            "events": learned,
            "events/s": round(learned / busy_s) if busy_s else None,
            "lists/s": round(lists / busy_s) if busy_s else None,
            "CPU us/event": round(cpu_us / learned, 1),
            "memory MB": round(laps[-1]["memory_mb"]),
            "start s": round(laps[0]["ready_s"], 1),
        })  # fmt: skip
    notes = [
        "Lists are part of the work: CPU an event grows with lists an event. Of several runs the "
        "one in the middle by events/s."
    ]
    rows = [_middle(list(runs)) for _, runs in groupby(rows, lambda row: row["log"])]
    return [Table("Catching up, one worker", list(rows[0]), rows, notes)]


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(runs, key=lambda row: row["events/s"] or 0)
    return {**ordered[len(runs) // 2], "runs": len(runs)}
