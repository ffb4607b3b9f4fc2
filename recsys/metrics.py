"""What a worker measures, for Prometheus: base units, few labels, never a user or an item."""

import time

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("recsys_events_total", "Records that took effect", ["topic"])
EVENT_LAG = Gauge("recsys_event_lag_seconds", "Age of the newest event applied", ["topic"])
DEAD_LETTERS = Counter("recsys_dead_letters_total", "Records refused", ["topic", "reason"])
PASSED_ON = Counter("recsys_passed_on_total", "Records sent to their own lane", ["topic"])
FORGOTTEN = Counter("recsys_forget_requests_total", "Requests to be forgotten, carried out")
FORGOTTEN_RECORDS = Counter(
    "recsys_forgotten_records_total",
    "Records left out, their user asked to be forgotten",
    ["topic"],
)
LISTS = Counter("recsys_lists_total", "Ranked lists written", ["trigger"])
ROUND_SECONDS = Histogram(
    "recsys_round_seconds", "One round of a lane, by stage", ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)  # fmt: skip


def events(topic: str, count: int, newest_ms: int) -> None:
    """Events of a topic were learned."""
    EVENTS.labels(topic).inc(count)
    EVENT_LAG.labels(topic).set(max(0.0, time.time() - newest_ms / 1000))


def dead_letter(topic: str, reason: str) -> None:
    """A record was refused."""
    DEAD_LETTERS.labels(topic, reason).inc()


def passed_on(topic: str) -> None:
    """A record was sent to its own lane."""
    PASSED_ON.labels(topic).inc()


def list_written(trigger: str) -> None:
    """A ranked list was written."""
    LISTS.labels(trigger).inc()
