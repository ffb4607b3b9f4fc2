"""What a worker measures, for Prometheus: base units, few labels, never a user or an item."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from recsys.worker import Worker

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
LISTED = Counter("recsys_listed_items_total", "Items in lists, by what found them", ["source"])
ANSWERS = Counter(
    "recsys_answers_total",
    "Events of users who had a list before: whether their item was in it (the live hit rate)",
    ["hit"],
)
HIT, MISS = ANSWERS.labels("yes"), ANSWERS.labels("no")


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


class WorkerCollector(Collector):
    """What is read off a worker when it is asked, rather than counted as it happens."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """One sample a group, stage or outcome."""
        worker = self._worker
        records = CounterMetricFamily(
            "recsys_records", "Records that were part of a committed transaction", labels=["group"]
        )
        transactions = CounterMetricFamily(
            "recsys_transactions", "Transactions, by how they ended", labels=["group", "outcome"]
        )
        stages = CounterMetricFamily(
            "recsys_stage_seconds", "Time spent, by stage of a round", labels=["group", "stage"]
        )
        lag = GaugeMetricFamily("recsys_lag_records", "Records that wait", labels=["group"])
        lanes = GaugeMetricFamily("recsys_lanes", "Lanes owned", labels=["group"])
        ready = GaugeMetricFamily("recsys_lanes_ready", "Lanes restored", labels=["group"])
        restored = GaugeMetricFamily(
            "recsys_restored_ratio", "How much of their state the lanes have read", labels=["group"]
        )
        for each in worker.workers:
            group = [each.group_id]
            records.add_metric(group, each.totals.records)
            for outcome, count in each.totals.transactions.items():
                transactions.add_metric([*group, outcome], count)
            for stage, seconds in list(each.totals.stage_seconds.items()):
                stages.add_metric([*group, stage], seconds)
            lag.add_metric(group, each.lag_records())
            held = list(each.lanes.values())
            lanes.add_metric(group, len(held))
            ready.add_metric(group, sum(lane.ready.is_set() for lane in held))
            total = sum(lane.restored[1] for lane in held)
            done = sum(lane.restored[0] for lane in held)
            restored.add_metric(group, done / total if total else 1.0)
        yield from (records, transactions, stages, lag, lanes, ready, restored)
        model = GaugeMetricFamily("recsys_model_info", "The model in force", labels=["version"])
        model.add_metric([worker.pipeline.model_version], 1)
        yield model
        users = GaugeMetricFamily("recsys_users", "Users known to this worker")
        held_users = worker.users.lanes.values() if worker.users is not None else ()
        users.add_metric([], sum(len(lane.users) for lane in held_users))
        yield users
        items = GaugeMetricFamily("recsys_items", "Items known to this worker")
        items.add_metric([], len(worker.items))
        yield items
