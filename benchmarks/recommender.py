"""The whole recommender, one worker, catching up on a backlog: events learned, lists written.

A backlog of users who are all active is overload: learning skips nothing, lists coalesce.
"""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import workers
from benchmarks.bench import Bench, Table
from benchmarks.event_log import Shop

PARTITIONS = 4


def logs(bench: Bench) -> dict[str, tuple[int, Callable[[int], Iterator[tuple[bytes, bytes]]]]]:
    """Name, number of events, and the log."""

    def shop(users: int) -> Callable[[int], Iterator[tuple[bytes, bytes]]]:
        return lambda events: Shop(events, users).records()

    few = bench.size(20_000, 600)
    many = bench.size(40_000, 600)
    chosen: dict[str, tuple[int, Any]] = {"Online Retail sample": (few, workers.sample_records)}
    for users in (1_000, 10_000, 1_000_000)[: bench.size(3, 1)]:
        chosen[f"synthetic, {users:,} users"] = (many, shop(users))
    return chosen


def run(bench: Bench) -> list[Table]:
    """Catch up on each log with a fresh worker."""
    rows = []
    for name, (events, records) in logs(bench).items():
        prefix = bench.fresh("recommender")
        workers.make_topics(bench, prefix, PARTITIONS)
        workers.fill_events(bench, prefix, PARTITIONS, records(events))
        worker = workers.WorkerProcess(bench, prefix, PARTITIONS)
        worker.until_ready()
        workers.catch_up([worker], events)
        laps = [lap for lap in worker.laps if lap["events"]]
        busy_s = sum(lap["seconds"] for lap in laps)
        lists = sum(lap["lists"] for lap in worker.laps)
        worker.stop()
        rows.append({
            "log": name,
            "events": worker.events,
            "events/s": round(worker.events / busy_s) if busy_s else None,
            "lists/s": round(lists / busy_s) if busy_s else None,
            "CPU us/event": round(1e6 * worker.cpu_s / worker.events, 1),
            "memory MB": round(laps[-1]["memory_mb"]),
            "start s": round(laps[0]["ready_s"], 1),
        })  # fmt: skip
    notes = ["Lists are part of the work: CPU an event grows with lists an event."]
    return [Table("Catching up, one worker", list(rows[0]), rows, notes)]
