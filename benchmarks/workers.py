"""Running the whole recommender for a benchmark: topics, events, a worker and its figures."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import event_log
from benchmarks.bench import Bench
from benchmarks.process import Contender, ContenderError
from recsys import demo
from streams import admin, codec, topics

ROLES = ["behaviour", "items"]
CATCH_UP_S = 600.0


def make_topics(bench: Bench, prefix: str, partitions: int) -> None:
    """All topics of the recommender under a prefix."""
    wanted = admin.wanted_topics(prefix, partitions, 1, 1)
    asyncio.run(admin.create_topics(bench.connection, wanted))


def fill_events(
    bench: Bench, prefix: str, partitions: int, records: Iterator[tuple[bytes, bytes]]
) -> None:
    """Behaviour events into their topic."""
    topic = topics.BEHAVIOUR.name(prefix)
    asyncio.run(event_log.fill(bench.connection, topic, partitions, records))


def sample_records(events: int) -> Iterator[tuple[bytes, bytes]]:
    """The first events of the sample that the project ships (Online Retail)."""
    for event in demo.read_sample()[0][:events]:
        yield event.user_id.encode(), codec.encode(event)


class WorkerProcess:
    """A worker under measurement; `lap` gives its figures since the last lap."""

    def __init__(
        self, bench: Bench, prefix: str, partitions: int, *, data: str = "", **more: Any
    ) -> None:
        options = {
            "bootstrap": bench.connection.bootstrap, "prefix": prefix, "partitions": partitions,
            "data_dir": str(bench.folder / (data or prefix)), "roles": ROLES, **more,
        }  # fmt: skip
        self._process = Contender("recommender", options)
        self.laps: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def until_ready(self) -> None:
        """Wait until every lane is restored."""
        if self._process.line() != "ready":
            self._process.finish(timeout_s=30)
            raise ContenderError("the worker ended before it was ready")

    def lap(self) -> dict[str, Any]:
        """Figures since the last lap."""
        self._process.write("\n")
        figures: dict[str, Any] = json.loads(self._process.line() or "{}")
        if not figures:
            self._process.finish(timeout_s=30)
            raise ContenderError("the worker ended while it was measured")
        self.laps.append(figures)
        return figures

    @property
    def events(self) -> int:
        """Events over all laps."""
        return int(sum(lap["events"] for lap in self.laps))

    @property
    def cpu_s(self) -> float:
        """CPU seconds while events were learned, over all laps."""
        return float(sum(lap["cpu_us_per_event"] * lap["events"] for lap in self.laps)) / 1e6

    def stop(self) -> None:
        """End it in good order."""
        self._process.end()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()


def catch_up(workers: list[WorkerProcess], events: int) -> float:
    """Wait until the workers together have learned so many events; seconds it took."""
    started = time.perf_counter()
    before = sum(worker.events for worker in workers)
    while sum(worker.events for worker in workers) - before < events:
        if time.perf_counter() - started > CATCH_UP_S:
            raise ContenderError(f"not caught up after {CATCH_UP_S} s")
        time.sleep(0.05)
        for worker in workers:
            worker.lap()
    return time.perf_counter() - started
