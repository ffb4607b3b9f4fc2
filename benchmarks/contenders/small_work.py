"""The small work with nothing around it: a log in memory, rings in a dict, results thrown away.

Options: `until_events`.
"""

from collections import deque
from typing import Any

from benchmarks import meter, small_work
from benchmarks.event_log import Shop


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Decode, ring, answer."""
    records = list(Shop(given["until_events"]).records())
    rings: dict[bytes, deque[str]] = {}
    counts: dict[bytes, int] = {}
    watch = meter.Meter()
    watch.start()
    for number, (key, value) in enumerate(records):
        event = small_work.decode(value)
        ring = rings.get(key)
        if ring is None:
            ring = rings[key] = deque(maxlen=small_work.RING)
        ring.append(event.item_id)
        counts[key] = counts.get(key, 0) + 1
        small_work.answer(f"{number}", event.user_id, counts[key], list(ring))
    watch.seen(len(records))
    return watch.figures()


if __name__ == "__main__":
    meter.report(work(meter.options()))
