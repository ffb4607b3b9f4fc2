"""Replay of the shipped sample, step by step; through Kafka into a worker it is `recommender`."""

import asyncio

from benchmarks import event_log, process
from benchmarks.bench import Bench, Table


def run(bench: Bench) -> list[Table]:
    """Read, send, learn."""
    topic = bench.fresh("replay-events-")
    asyncio.run(event_log.create_topics(bench.connection, [topic], 4))
    found = process.run("replay", {
        "bootstrap": bench.connection.bootstrap, "topic": topic,
        "events": bench.size(1_000_000, 500),
    })  # fmt: skip
    rows = [
        {
            "step": step, "events": figures["events"],
            "events/s": round(figures["events_per_s"]),
            "CPU us/event": round(figures["cpu_us_per_event"], 1),
        }
        for step, figures in found.items()
    ]  # fmt: skip
    notes = ["Learning: both halves and the rows of both states, no lists, no examples."]
    return [Table("Replaying a log as fast as it goes", list(rows[0]), rows, notes)]
