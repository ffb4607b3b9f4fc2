"""Memory over a long stream in which users come and go. Options: `events`, `users_max`."""

import resource
from typing import Any

from benchmarks import meter
from benchmarks.contenders.kernels import CHUNK, Clock, learn_chunk, pipeline_of
from benchmarks.event_log import START_MS, TYPES
from recsys.user_state import StateLimits, UserState

ACTIVE_USERS = 20_000
ITEMS = 4_000


def rows_of(first: int, count: int) -> list[tuple[str, str, str, int]]:
    """Events whose users move on: everyone acts 20 times over a while and never again."""
    rows = []
    for at in range(first, first + count):
        user = at // 20 + (at * 7_919) % ACTIVE_USERS
        item = (at * 104_729) % ITEMS
        rows.append((f"u{user}", f"i{item}", TYPES[at % len(TYPES)], START_MS + at * 100))
    return rows


def memory_mb() -> float:
    """Memory of this process now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Learn the stream, and look at the memory ten times."""
    pipeline = pipeline_of(trained=False)
    users = UserState(pipeline.items, StateLimits(users_max=given["users_max"]))
    empty_mb = memory_mb()
    clock, looks = Clock(), []
    tenth = given["events"] // 10
    for done in range(0, given["events"], CHUNK):
        learn_chunk(pipeline, users, rows_of(done, CHUNK), clock)
        if (done + CHUNK) % tenth < CHUNK:
            looks.append({
                "events": done + CHUNK, "users": len(users), "memory MB": round(memory_mb(), 1),
                "bytes/user": round(users.memory()["bytes"] / max(len(users), 1)),
            })  # fmt: skip
    item = pipeline.items.memory()
    return {
        "looks": looks,
        "empty MB": empty_mb,
        "bytes/item": item["bytes"] / max(item["items"], 1),
    }


if __name__ == "__main__":
    meter.report(work(meter.options()))
