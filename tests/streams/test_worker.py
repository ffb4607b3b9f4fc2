"""What a worker keeps on its disk of lanes that come and go."""

import ast
import contextlib
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.broker import Broker
from streams.connection import Connection
from streams.lane_config import LaneConfig
from streams.worker import GroupConfig, RoleWorker
from tests.streams.toy import PARTITIONS, Adding, Sums, Toy, expected, together, until

COUNT = 100


class Files:
    """Snapshots as files, and which of them were read."""

    def __init__(self) -> None:
        self.read_ones: list[str] = []

    def write(self, path: Path, snapshot: dict[str, Any], meta: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(repr((snapshot, meta)))

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        if not path.exists():
            return None
        self.read_ones.append(path.name)
        return ast.literal_eval(path.read_text())  # type: ignore[no-any-return]


@pytest.fixture
async def toy(local_broker: Broker, tmp_path: Path) -> Toy:
    return await Toy(local_broker.bootstrap, tmp_path).create()


@asynccontextmanager
async def working(
    toy: Toy, folder: Path, lanes: int, files: Files | None = None
) -> AsyncIterator[tuple[RoleWorker[Sums], Adding]]:
    """A worker with a data folder of its own that waits until it has so many lanes."""
    application = Adding(toy.answers)
    config = LaneConfig(
        Connection(toy.bootstrap), toy.name, (toy.numbers,), toy.state,
        snapshot_dir=folder / "snapshots", snapshot_interval_s=0.05,
    )  # fmt: skip
    worker = RoleWorker(config, GroupConfig(data_dir=folder), application, files or Files())
    await worker.start()
    try:
        await until(lambda: worker.ready and len(worker.lanes) == lanes)
        yield worker, application
    finally:
        await worker.stop()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """What a process has whose worker was there first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def kept(folder: Path) -> set[int]:
    return {int(path.stem.rpartition("-")[2]) for path in folder.glob("snapshots/*.snapshot")}


async def test_a_lane_that_went_to_another_worker_leaves_no_snapshot(toy: Toy) -> None:
    one, two = toy.folder / "one", toy.folder / "two"
    await toy.produce(COUNT)
    async with working(toy, one, PARTITIONS) as (first, adding):
        await until(lambda: adding.count >= COUNT and kept(one) == {0, 1})
        async with working(toy, two, 1) as (second, added):
            await until(lambda: len(first.lanes) == 1 and kept(one) == set(first.lanes))
            await toy.produce(COUNT, COUNT)
            await until(lambda: adding.count + added.count >= 2 * COUNT)
            await until(lambda: kept(two) == set(second.lanes))
        await until(lambda: len(first.lanes) == PARTITIONS and first.ready)
        assert together(adding) == expected(2 * COUNT)
    assert kept(one) == {0, 1}  # who stops and starts again finds them
    assert len(kept(two)) == 1
    files = Files()
    async with working(toy, one, PARTITIONS, files) as (_, adding):
        assert len(files.read_ones) == PARTITIONS
        assert together(adding) == expected(2 * COUNT)


@pytest.mark.parametrize("shared", [False, True])
async def test_snapshots_of_lanes_that_do_not_come_back_go(toy: Toy, shared: bool) -> None:
    """Unless another process works on the same data."""
    one, two = toy.folder / "one", toy.folder / "two"
    left = two / "snapshots" / f"{toy.state}-0.snapshot"
    left.parent.mkdir(parents=True)
    async with working(toy, one, PARTITIONS):
        for lane in range(PARTITIONS):
            left.with_name(f"{toy.state}-{lane}.snapshot").write_text("({}, {})")
        other = two / "faust" / toy.name / "member"
        with held(other) if shared else contextlib.nullcontext():
            async with working(toy, two, 1) as (second, _):
                assert kept(two) == ({0, 1} if shared else set(second.lanes))
