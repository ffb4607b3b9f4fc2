"""Ours, the wire alone: the small work through `streams`, exactly-once on, state logged.

Options: `bootstrap`, `events`, `out`, `state` (topics), `group`, `partitions`, `data_dir`, and
`until_events`; without it, it ends when its standard input does. Prints `ready` at the start.
"""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import meter, small_work
from streams import interpreter
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.connection import Connection
from streams.lane_config import LaneConfig
from streams.worker import GroupConfig, RoleWorker

Row = list[Any]  # [count, ring]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.decode


class Rings:
    """State of a lane: count and ring a user, with the round's changes apart until it commits."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.changed: dict[bytes, Row] = {}

    def begin(self) -> None:
        self.changed = {}

    def commit(self) -> None:
        self.rows.update(self.changed)

    def rollback(self) -> None:
        self.changed = {}

    def row(self, key: bytes) -> Row:
        """The user's row, to be written."""
        row = self.changed.get(key)
        if row is None:
            count, ring = self.rows.get(key) or (0, ())
            row = self.changed[key] = [count, deque(ring, small_work.RING)]
        return row

    def dirty_records(self) -> list[tuple[bytes, bytes | None]]:
        return [(key, _pack((row[0], list(row[1])))) for key, row in self.changed.items()]

    def load_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        for key, value in records:
            if value is not None:
                self.rows[key] = _unpack(value)

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, snapshot: dict[str, Any]) -> None:
        return


class SmallWork:
    """The application: one result an event."""

    def __init__(self, out: str, watch: meter.Meter) -> None:
        self._out = out
        self._watch = watch

    def open(self, lane: int) -> Rings:
        return Rings()

    def opened(self, lane: int, state: Rings) -> None:
        return

    def closed(self, lane: int) -> None:
        return

    def committed(self, lane: int, state: Rings) -> None:
        return

    def due_s(self, lane: int, state: Rings) -> float | None:
        return None

    def apply(self, lane: int, state: Rings, chunks: Sequence[Chunk]) -> Outcome:
        self._watch.start()
        results = []
        for chunk in chunks:
            for record in chunk.records:
                event = small_work.decode(record.value)
                row = state.row(record.key)
                row[0] += 1
                row[1].append(event.item_id)
                list_id = f"{lane}-{record.offset}"
                body = small_work.answer(list_id, event.user_id, row[0], list(row[1]))
                results.append(Record(record.key, body))
        return Outcome({Position(self._out, lane): results})


async def work(given: dict[str, Any]) -> dict[str, Any]:
    """Read the whole log through the lanes."""
    lanes = LaneConfig(
        Connection(given["bootstrap"]), given["group"], (given["events"],), given["state"],
        notes_positions=True,
    )  # fmt: skip
    watch = meter.Meter()
    application = SmallWork(given["out"], watch)
    worker = RoleWorker(lanes, GroupConfig(data_dir=Path(given["data_dir"])), application)
    await worker.start()
    while not worker.ready:  # noqa: ASYNC110 — the worker has no event for it
        await asyncio.sleep(0.02)
    interpreter.settle()
    print("ready", flush=True)
    until, done = given.get("until_events", sys.maxsize), 0
    closed = threading.Thread(target=sys.stdin.read, daemon=True)
    closed.start()
    while done < until and (closed.is_alive() or until != sys.maxsize):
        await asyncio.sleep(0.01)
        if worker.failure.done():
            raise worker.failure.result()
        done = sum(lane.records for lane in worker.lanes.values())
        watch.seen(done)
    figures = watch.figures(rounds=sum(lane.rounds for lane in worker.lanes.values()))
    await worker.stop()
    return figures


if __name__ == "__main__":
    logging.disable(logging.DEBUG)
    interpreter.tune()
    meter.report(asyncio.run(work(meter.options())))
