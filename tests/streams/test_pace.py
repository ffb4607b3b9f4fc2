"""When a round runs: where something is due without input, and no faster than its pace."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from streams import state_log
from streams.application import Outcome
from streams.broker import Broker
from streams.chunk import Chunk, Position
from streams.connection import Connection
from streams.lane_config import LaneConfig
from streams.worker import GroupConfig, RoleWorker
from tests.streams.toy import PARTITIONS, Adding, Sums, Toy, until


@pytest.fixture
async def toy(local_broker: Broker, tmp_path: Path) -> Toy:
    return await Toy(local_broker.bootstrap, tmp_path).create()


class Late(Adding):
    """Keeps its answers until a round without input, and notes when rounds with input begin."""

    def __init__(self, answers: str) -> None:
        super().__init__(answers)
        self.kept: dict[int, Outcome] = {}
        self.begun: dict[int, list[float]] = defaultdict(list)

    def apply(self, lane: int, state: Sums, chunks: Sequence[Chunk]) -> Outcome:
        if not chunks:
            return self.kept.pop(lane)
        self.begun[lane].append(time.monotonic())
        kept = self.kept.setdefault(lane, Outcome())
        for target, records in super().apply(lane, state, chunks).writes.items():
            for record in records:
                kept.add(target, record)
        return Outcome()

    def due_s(self, lane: int, state: Sums) -> float | None:
        return 0.05 if lane in self.kept else None


async def answers(toy: Toy) -> int:
    found = 0

    def count(records: list[object]) -> None:
        nonlocal found
        found += len(records)

    for partition in range(PARTITIONS):
        source = Position(toy.answers, partition)
        await state_log.restore(Connection(toy.bootstrap), source, count)
    return found


async def test_what_is_due_is_done_when_nothing_more_comes(toy: Toy) -> None:
    role = Late(toy.answers)
    config = LaneConfig(Connection(toy.bootstrap), toy.name, (toy.numbers,), toy.state)
    worker = RoleWorker(config, GroupConfig(data_dir=toy.folder), role)
    await worker.start()
    try:
        await toy.produce(50)
        await until(lambda: role.count == 50 and not role.kept)
        await until(lambda: all(not lane.waiting_records for lane in worker.lanes.values()))
    finally:
        await worker.stop()
    assert await answers(toy) == 50


async def test_rounds_of_all_lanes_keep_their_distance(toy: Toy) -> None:
    role = Late(toy.answers)
    config = LaneConfig(
        Connection(toy.bootstrap), toy.name, (toy.numbers,), toy.state, rounds_per_s_max=8.0
    )
    worker = RoleWorker(config, GroupConfig(data_dir=toy.folder), role)
    await worker.start()
    try:
        await until(lambda: worker.ready and len(worker.lanes) == PARTITIONS)
        for first in range(0, 100, 10):
            await toy.produce(10, first)
            await asyncio.sleep(0.05)
        await until(lambda: role.count == 100)
    finally:
        await worker.stop()
    starts = sorted(start for times in role.begun.values() for start in times)
    assert len(starts) > PARTITIONS
    # One may be held up and the next not: only over several of them is the pace exact.
    assert starts[-1] - starts[0] > 0.9 * (len(starts) - 2) / 8.0
