"""One worker's throughput: the wire against what a user would pick instead, and the limits.

Everyone reads the same log and does the same small work (`small_work`).
"""

import asyncio
import sys
from typing import Any

from benchmarks import event_log, process
from benchmarks.bench import Bench, Table, medians

PARTITIONS = 4


def contenders(bench: Bench) -> dict[str, tuple[str, dict[str, Any], str]]:
    """Name in the table, to program, options and Python."""
    here = sys.executable
    chosen: dict[str, tuple[str, dict[str, Any], str]] = {
        "recsys wire, exactly-once": ("wire", {}, here),
        "aiokafka transactional loop, no state log": ("aiokafka_loop", {}, here),
        "Faust agent, 'exactly_once'": ("faust_stock", {"take": 0}, here),
        "Faust agent, take(100)": ("faust_stock", {"take": 100}, here),
        "limit: aiokafka consume": ("consume", {"client": "aiokafka", "decode": False}, here),
        "limit: aiokafka consume and decode": (
            "consume", {"client": "aiokafka", "decode": True}, here
        ),
        "limit: the small work alone, no Kafka": ("small_work", {}, here),
    }  # fmt: skip
    rivals = bench.rivals_python()
    if rivals is not None:
        chosen |= {
            "Quix Streams, exactly-once, 0.1 s commits": ("quix", {"commit_s": 0.1}, rivals),
            "Quix Streams, exactly-once, 5 s commits": ("quix", {"commit_s": 5.0}, rivals),
            "limit: confluent-kafka consume": (
                "consume", {"client": "confluent", "decode": False}, rivals
            ),
        }  # fmt: skip
    return chosen


def run(bench: Bench) -> list[Table]:
    """Run each contender in turn, several rounds; medians, and ratios to ours."""
    events = bench.size(100_000, 3_000)
    topic = bench.fresh("throughput-events-")
    event_log.fill_topic(bench.connection, topic, PARTITIONS, event_log.Shop(events))
    figures: dict[str, list[dict[str, Any]]] = {}
    chosen = contenders(bench)
    for _ in range(bench.rounds):
        for name, (program, options, python) in chosen.items():
            # Stock Faust is so slow that a part of the log must do.
            until = events // 20 if program == "faust_stock" else events
            figures.setdefault(name, []).append(
                _one(bench, program, {**options, "events": topic, "until_events": until}, python)
            )
            print(f"  {name}: {figures[name][-1]['cpu_us_per_event']:.1f} us", flush=True)
    rows = []
    ours = medians(figures["recsys wire, exactly-once"])
    for name, runs in figures.items():
        middle = medians(runs)
        rows.append({
            "contender": name,
            "CPU us/event": round(middle["cpu_us_per_event"], 1),
            "events/s": round(middle["events_per_s"]),
            "CPU, times ours": round(middle["cpu_us_per_event"] / ours["cpu_us_per_event"], 2)
            if ours["cpu_us_per_event"] else None,
            "memory MB": round(middle["memory_mb"]),
            "transactions": _transactions(middle),
        })  # fmt: skip
    notes = [f"{events} events, {PARTITIONS} partitions, {bench.rounds} rounds, medians."]
    return [Table("Throughput, one worker, small work", list(rows[0]), rows, notes,
                  ("bars", "contender", "CPU us/event"))]  # fmt: skip


def _transactions(figures: dict[str, Any]) -> int | None:
    """How many the log took, where the contender counts them; a round of the wire's is one."""
    found = figures.get("transactions", figures.get("rounds"))
    return None if found is None else round(found)


def _one(bench: Bench, program: str, options: dict[str, Any], python: str) -> dict[str, Any]:
    group = bench.fresh("throughput-")
    names = [f"{group}-out", f"{group}-state"]
    asyncio.run(event_log.create_topics(bench.connection, names, PARTITIONS, compact=(names[1],)))
    given = {
        "bootstrap": bench.connection.bootstrap, "group": group, "out": names[0],
        "state": names[1], "partitions": PARTITIONS, "data_dir": str(bench.folder / group),
    }  # fmt: skip
    return process.run(program, {**given, **options}, python)
