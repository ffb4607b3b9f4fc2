"""Scale-out: 1, 2 and 4 workers on one machine, CPU seconds a million events; and a rebalance.

Where there are no more cores than one worker fills, more workers cannot be faster; flat CPU cost
shows that they would be.
"""

import os
import time
from typing import Any

from benchmarks import process, workers
from benchmarks.bench import Bench, Table
from benchmarks.event_log import Shop
from streams import topics

PARTITIONS = 8


def run(bench: Bench) -> list[Table]:
    """Catch up with 1, 2, 4 workers; then a worker joins and leaves while events flow."""
    rows: list[dict[str, Any]] = []
    for count in (1, 2, 4) if not bench.quick else (1,):
        rows.append(_catch_up(bench, count))
        base = rows[0]["CPU s/million events"]
        rows[-1]["CPU, times one"] = round(rows[-1]["CPU s/million events"] / base, 2)
        rows[-1]["ideal events/s"] = count * rows[0]["events/s"]
    waits = [_rebalance(bench)]
    return [
        Table("Catching up with more workers", list(rows[0]), rows,
              [f"{os.cpu_count()} cores, which the broker shares. While events wait lists do, so"
               " a quick worker writes fewer of them, and CPU an event is not of equal work."],
              ("lines", "workers", "events/s", "ideal events/s")),
        Table("A worker joins, and one is killed", list(waits[0]), waits,
              ["Waits of events at 200/s, from when they were due to their list."]),
    ]  # fmt: skip


def _catch_up(bench: Bench, count: int) -> dict[str, Any]:
    events = bench.size(80_000, 800)
    prefix = bench.fresh("scale")
    workers.make_topics(bench, prefix, PARTITIONS)
    started = [
        workers.WorkerProcess(bench, prefix, PARTITIONS, data=f"{prefix}-{n}") for n in range(count)
    ]
    for worker in started:
        worker.until_ready()
    time.sleep(bench.size(8, 1))  # the assignment settles
    workers.fill_events(bench, prefix, PARTITIONS, Shop(events, 5_000).records())
    seconds = workers.catch_up(started, events)
    cpu_s = sum(worker.cpu_s for worker in started)
    done = sum(worker.events for worker in started)
    lists = sum(lap["lists"] for worker in started for lap in worker.laps)
    shares = [worker.events / done for worker in started]
    for worker in started:
        worker.stop()
    return {
        "workers": count,
        "events/s": round(done / seconds),
        "lists/event": round(lists / done, 2),
        "CPU s/million events": round(1e6 * cpu_s / done, 1),
        "CPU, times one": 1.0,
        "largest share": round(max(shares), 2),
    }


def _rebalance(bench: Bench) -> dict[str, Any]:
    """Events flow; a second worker joins and the first is killed."""
    prefix = bench.fresh("rebalance")
    workers.make_topics(bench, prefix, PARTITIONS)
    first = workers.WorkerProcess(bench, prefix, PARTITIONS, data=f"{prefix}-0")
    first.until_ready()
    common = {"bootstrap": bench.connection.bootstrap}
    events, lists = topics.BEHAVIOUR.name(prefix), topics.RECOMMENDATIONS.name(prefix)
    reader = process.Contender("list_reader", {**common, "lists": lists, "events": events})
    reader.line()
    producer = process.Contender("open_loop", {
        **common, "topic": events, "partitions": PARTITIONS, "rate": bench.size(200, 50),
        "seconds": bench.size(60, 15), "users": 1_000, "items": 1_000, "seed": 9,
    })  # fmt: skip
    time.sleep(2)
    joined = time.perf_counter()
    second = workers.WorkerProcess(bench, prefix, PARTITIONS, data=f"{prefix}-1")
    second.until_ready()
    joined_s = time.perf_counter() - joined
    time.sleep(bench.size(5, 1))
    first.kill()
    sent = producer.finish()
    time.sleep(bench.size(15, 10))
    reader.write(str(sent["from_ms"]))
    found = reader.finish()
    second.stop()
    return {
        "started and joined s": round(joined_s, 1),
        "events": found["events"], "answered": found["answered"],
        **{name: None if found[key] is None else round(found[key])
           for name, key in (("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), ("longest ms", "max_ms"))},
    }  # fmt: skip
