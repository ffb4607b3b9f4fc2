"""Sending the rows of a file, with a progress bar and a report of what was refused."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from recsys.commands.common import print_table, progress_bar, say
from recsys.log_sources import LogError
from recsys.settings import Settings
from streams.codec import DecodeError, encode
from streams.events import BehaviourEvent, Product, time_ms

REFUSED_SHOWN = 20
REFUSED_KEPT = 10_000
ROWS_A_STEP = 500  # between two looks at the clock, the progress bar and the event loop

Fed = BehaviourEvent | Product


class Rows(Protocol):
    """A file of events or products, as `BehaviourLog` and `ProductLog` are."""

    size_bytes: int
    notes: list[str]

    def __iter__(self) -> Iterator[tuple[int, Any]]: ...

    def position(self) -> int:
        """Bytes read so far."""
        ...


@dataclass
class Report:
    """What became of the rows."""

    topic: str
    sent: int = 0
    refused: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    stopped: bool = False
    damaged: str = ""  # why the file could not be read to its end
    line: int = 0  # all up to it were sent or refused; 0 where they went in another order
    reading: int = 0  # the line that was read last
    reasons: Counter[str] = field(default_factory=Counter)
    lines: list[tuple[int, DecodeError]] = field(default_factory=list)

    def refuse(self, line: int, error: DecodeError) -> None:
        """Note a row that cannot be sent."""
        self.refused += 1
        self.reasons[error.reason] += 1
        if len(self.lines) < REFUSED_KEPT:
            self.lines.append((line, error))

    def as_json(self) -> dict[str, Any]:
        """For machines; of the refused lines at most the first ten thousand."""
        return {
            "topic": self.topic,
            "sent": self.sent,
            "refused": self.refused,
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry_run,
            "stopped": self.stopped,
            "damaged": self.damaged or None,
            "line": self.line,
            "reasons": dict(self.reasons),
            "refused_lines": [
                {"line": line, "reason": e.reason, "field": e.field, "message": e.message}
                for line, e in self.lines
            ],
        }

    def tell(self) -> None:
        """For people."""
        if self.stopped or self.damaged:
            reached = f", up to line {self.line}" if self.line else ""
            why = "stopped" if self.stopped else f"recsys: {self.damaged}"
            say(f"{why}: {self.sent} records sent to {self.topic}{reached}.")
            return
        rate = self.sent / self.seconds if self.seconds else 0.0
        verb = "would be sent" if self.dry_run else "sent"
        say(f"{self.sent} records {verb} to {self.topic} in {self.seconds:.1f} s ({rate:.0f}/s).")
        if self.refused:
            rows = [
                {"line": line, "reason": e.reason, "field": e.field, "why": e.message}
                for line, e in self.lines[:REFUSED_SHOWN]
            ]
            say(f"{self.refused} lines refused:")
            print_table("", rows, ["line", "reason", "field", "why"])
            if self.refused > REFUSED_SHOWN:
                say(f"and {self.refused - REFUSED_SHOWN} more; --json names up to {REFUSED_KEPT}.")


async def feed(
    given: Settings,
    topic: str,
    log: Rows,
    *,
    quiet: bool,
    speed: float | None = None,
    by_time: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
) -> Report:
    """Send a file's rows to a topic, at `speed` times their own pace or as fast as it goes."""
    report = Report(topic, dry_run=dry_run)
    start_s = time.monotonic()
    with progress_bar(log.size_bytes, shown=not quiet) as update:
        rows = _counted(log, report, update, limit)
        ready: Iterable[Fed] = rows
        if by_time:
            ready = sorted([row async for row in _interruptible(rows)], key=_time_of)
        if dry_run:
            report.sent = sum([1 async for _ in _interruptible(ready)])
        else:
            await _send(given, topic, ready, report, speed, in_order=not by_time)
    report.seconds = time.monotonic() - start_s
    return report


def _counted(log: Rows, report: Report, update: Any, limit: int | None) -> Iterator[Fed]:
    taken = 0
    for line, row in log:
        if isinstance(row, DecodeError):
            report.refuse(line, row)
            continue
        taken += 1
        if taken % ROWS_A_STEP == 0:
            update(log.position(), f"{taken} rows")
        report.reading = line
        yield row
        if taken == limit:
            break


async def _interruptible(rows: Iterable[Fed]) -> AsyncIterator[Fed]:
    """The rows; the event loop has a look at Ctrl-C now and then."""
    for count, row in enumerate(rows, 1):
        yield row
        if count % ROWS_A_STEP == 0:
            await asyncio.sleep(0)


async def _send(
    given: Settings, topic: str, rows: Iterable[Fed], report: Report, speed: float | None, *,
    in_order: bool,
) -> None:  # fmt: skip
    from streams.producer import BatchProducer
    from streams.replay import Pace, until_due

    pace = Pace(speed)
    async with BatchProducer(given.connection(), topic, given.worker.broker_timeout_s) as producer:
        try:
            for count, row in enumerate(rows, 1):
                if speed is not None:
                    await until_due(producer, pace, _time_of(row))
                full = producer.add(_key_of(row), encode(row))
                report.line = report.reading if in_order else 0
                if full:
                    await producer.send_full()
                elif count % ROWS_A_STEP == 0:
                    await asyncio.sleep(0)
            await producer.flush()
        except asyncio.CancelledError:  # Ctrl-C: what was taken of the file is sent, and counted
            report.stopped = True
            await producer.flush()
        except LogError as error:
            report.damaged = str(error)
            await producer.flush()
        report.sent = producer.acknowledged


def _key_of(row: Fed) -> bytes:
    return (row.user_id if isinstance(row, BehaviourEvent) else row.item_id).encode()


def _time_of(row: Fed) -> int:
    return time_ms(row.timestamp) if isinstance(row, BehaviourEvent) else 0


def as_data(row: Fed) -> Any:
    """A row as plain data."""
    return msgspec.to_builtins(row)
