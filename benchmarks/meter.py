"""What a contender measures of itself: CPU time of its whole process, wall time, memory."""

import json
import resource
import sys
import time
from typing import Any


def cpu_s() -> float:
    """CPU seconds of this process so far, all threads, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Meter:
    """Counts from right before the first events to the last: starting up is left out."""

    def __init__(self) -> None:
        self._first: tuple[float, float, int] | None = None
        self._last = (0.0, 0.0, 0)

    def start(self) -> None:
        """The first events are about to be done. Later calls change nothing."""
        if self._first is None:
            self._first = self._last = (time.perf_counter(), cpu_s(), 0)

    def seen(self, events: int) -> None:
        """`events` have been done so far."""
        if events > self._last[2]:
            self._last = (time.perf_counter(), cpu_s(), events)

    def figures(self, **more: Any) -> dict[str, Any]:
        """Events, events/s, CPU microseconds an event, memory at its highest, and `more`.

        Rates are 0 where there were no events.
        """
        first, last = self._first or self._last, self._last
        seconds, cpu, events = (b - a for a, b in zip(first, last, strict=True))
        return {
            "events": last[2],
            "seconds": seconds,
            "events_per_s": events / seconds if seconds else 0.0,
            "cpu_us_per_event": 1e6 * cpu / events if events else 0.0,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **more,
        }


def options() -> dict[str, Any]:
    """The options this program was started with."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def report(figures: dict[str, Any]) -> None:
    """Hand the figures over: the last line of standard output."""
    print(json.dumps(figures), flush=True)
