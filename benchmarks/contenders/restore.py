"""How long a lane's state takes to come back: from its log, and from a local snapshot.

Options: `bootstrap`, `topic`, `users`, `folder`. Also what a million users cost: memory, and CPU to
learn an event when so many are known.
"""

import asyncio
import gc
import time
from pathlib import Path
from typing import Any

from benchmarks import event_log, meter
from benchmarks.contenders.churn import memory_mb
from benchmarks.contenders.kernels import CHUNK, Clock, learn_chunk, pipeline_of
from benchmarks.event_log import START_MS, TYPES
from recsys.item_state import ItemState
from recsys.pipeline import default_models
from recsys.snapshots import StateSnapshots
from recsys.user_state import UserState
from streams import state_log
from streams.chunk import Position
from streams.connection import Connection

EVENTS_A_USER = 3
ITEMS = 4_000


def rows_of(first: int, count: int, users: int) -> list[tuple[str, str, str, int]]:
    """Everyone acts in turn."""
    return [
        (f"u{at % users}", f"i{(at * 104_729) % ITEMS}", TYPES[at % 8], START_MS + at * 10)
        for at in range(first, first + count)
    ]


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Make the state, write its log and its snapshot, and read both back."""
    count = given["users"]
    pipeline = pipeline_of(trained=False)
    users = UserState(pipeline.items)
    before_mb = memory_mb()
    events = EVENTS_A_USER * count
    for first in range(0, events, CHUNK):
        learn_chunk(pipeline, users, rows_of(first, CHUNK, count), Clock())
    gc.collect()
    held_mb = memory_mb() - before_mb
    clock = Clock()
    for first in range(events, events + 20 * CHUNK, CHUNK):
        learn_chunk(pipeline, users, rows_of(first, CHUNK, count), clock)
    learn_us = 1e6 * sum(clock.spent.values()) / (20 * CHUNK)

    connection, source = Connection(given["bootstrap"]), Position(given["topic"], 0)
    await event_log.create_topics(connection, [source.topic], 1, compact=(source.topic,))
    records = ((key, value) for key, value in users.records() if value is not None)
    await event_log.fill(connection, source.topic, 1, records)
    digest = users.digest()
    path = Path(given["folder"]) / "lane.snapshot"
    snapshots, state_end = StateSnapshots(), {"state_end": 0}
    started = time.perf_counter()
    snapshot = users.snapshot()
    copied = time.perf_counter()
    snapshots.write(path, snapshot, state_end)
    written = time.perf_counter()
    del snapshot, users

    fresh = UserState(ItemState(default_models()))
    cpu, started_log = time.process_time(), time.perf_counter()
    await state_log.restore(
        connection, source, lambda found: fresh.load_records((r.key, r.value) for r in found)
    )
    log_s, log_cpu_s = time.perf_counter() - started_log, time.process_time() - cpu
    assert fresh.digest() == digest, "the log gave another state"
    again = UserState(ItemState(default_models()))
    started_snapshot = time.perf_counter()
    found = snapshots.read(path)
    assert found is not None, "the snapshot was refused"
    again.restore(found[0])
    snapshot_s = time.perf_counter() - started_snapshot
    assert again.digest() == digest, "the snapshot gave another state"
    return {
        "users": count, "bytes/user": 1e6 * held_mb / count, "learn us/event": learn_us,
        "from log s": log_s, "from log CPU s": log_cpu_s, "from snapshot s": snapshot_s,
        "copy s": copied - started, "write s": written - copied,
        "snapshot MB": len(path.read_bytes()) / 1e6,
    }  # fmt: skip


if __name__ == "__main__":
    meter.report(asyncio.run(work(meter.options())))
