"""The whole recommender in one process: the worker as it is deployed, with a meter beside it.

Options: `bootstrap`, `prefix`, `partitions`, `data_dir`, `roles`, and perhaps `worker` (settings of
that section) and `until_events`. Prints `ready` when every lane is restored. Then it either ends
after so many events, or prints its figures since the last time at each line of standard input and
ends with that.
"""

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import REGISTRY

import recsys.worker
from benchmarks import meter
from recsys.settings import Settings
from recsys.user_lane import UserLane
from recsys.user_lanes import UserLanes
from recsys.worker import Worker, configure_logging
from streams import interpreter
from streams.application import Outcome
from streams.chunk import Chunk

POLL_S = 0.02
SILENT_S = 120.0


def settings_of(given: dict[str, Any]) -> Settings:
    """The worker's settings for a run."""
    return Settings(
        broker=given["bootstrap"], prefix=given["prefix"], application=given["prefix"],
        partitions=given["partitions"], data_dir=given["data_dir"],
        worker={"web_port": 0, **given.get("worker", {})},
    )  # fmt: skip


def lists_written() -> int:
    """Lists that answer events, by the worker's own metric."""
    return int(REGISTRY.get_sample_value("recsys_lists_total", {"trigger": "event"}) or 0)


class MeteredLanes(UserLanes):
    """The lanes of users; the meter starts with their first round."""

    meter = meter.Meter()

    def apply(self, lane: int, state: UserLane, chunks: Sequence[Chunk]) -> Outcome:
        """One round."""
        MeteredLanes.meter.start()
        return super().apply(lane, state, chunks)


class Watch:
    """The worker's figures between two moments."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lists = 0
        self._base = 0
        self.ready_s = 0.0

    @property
    def events(self) -> int:
        """Records that the lanes of users have committed."""
        return sum(lane.records for lane in self._worker.workers[0].lanes.values())

    def look(self) -> None:
        """Note how far it is."""
        MeteredLanes.meter.seen(self.events - self._base)

    def figures(self) -> dict[str, Any]:
        """The figures since the last time."""
        self.look()
        lists, rounds = lists_written(), self._rounds()
        figures = MeteredLanes.meter.figures(
            ready_s=self.ready_s, lists=lists - self._lists, rounds=rounds
        )
        figures["lists_per_s"] = figures["lists"] / figures["seconds"] if figures["seconds"] else 0
        self._lists = lists
        if figures["events"]:
            MeteredLanes.meter, self._base = meter.Meter(), self.events
            MeteredLanes.meter.start()
        return figures

    def _rounds(self) -> list[int]:
        workers = self._worker.workers
        return [sum(lane.rounds for lane in each.lanes.values()) for each in workers]


def _read_lines(lines: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put("")


async def work(given: dict[str, Any]) -> None:
    """Run the worker and measure it."""
    started = time.perf_counter()
    recsys.worker.UserLanes = MeteredLanes
    settings = settings_of(given)
    recsys.worker.keep_to(settings)
    worker = Worker(settings, given["roles"])
    await worker.start()
    watch = Watch(worker)
    while not worker.ready:
        if (failure := worker.failure()) is not None:
            raise failure
        watch.look()
        await asyncio.sleep(POLL_S)
    interpreter.settle()
    watch.ready_s = time.perf_counter() - started
    print("ready", flush=True)
    until = given.get("until_events")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()
    silent_since, seen = time.monotonic(), 0
    while True:
        await asyncio.sleep(POLL_S)
        if (failure := worker.failure()) is not None:
            raise failure
        watch.look()
        if watch.events > seen:
            seen, silent_since = watch.events, time.monotonic()
        if until is not None:
            if seen >= until:
                meter.report(watch.figures())
                break
            if time.monotonic() - silent_since > SILENT_S:
                raise RuntimeError(f"stuck at {seen} of {until} events")
        elif not lines.empty():
            if not lines.get():
                break
            meter.report(watch.figures())
    await worker.stop()


if __name__ == "__main__":
    configure_logging()
    interpreter.tune()
    asyncio.run(work(meter.options()))
