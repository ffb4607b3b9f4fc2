"""A lane's snapshot is believed where it holds, is due when something changed, and tries again."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streams.compute import Compute
from streams.local_snapshot import LocalSnapshot, Mark, sweep
from streams.state_log import Birth
from tests.streams.toy import Sums

NOW_S = int(time.time())
MARK = Mark(Birth(7, "name"), 40, {"events": 12}, NOW_S)
DAY_S = 86_400


class Store:
    """One snapshot, in memory; writes fail as often as they are told to."""

    def __init__(self, kept: tuple[dict[str, Any], dict[str, Any]] | None = None) -> None:
        self.kept = kept
        self.fails = 0

    def write(self, path: Path, snapshot: dict[str, Any], meta: dict[str, Any]) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("no room")
        self.kept = snapshot, meta

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        return self.kept


def local(store: Store, every_s: float = 0.0, path: Path = Path("toy.snapshot")) -> LocalSnapshot:
    return LocalSnapshot(store, path, every_s, Compute(), lambda: None)


async def believed(mark: Mark) -> bool:
    return True


async def refused(mark: Mark) -> bool:
    return False


async def test_what_was_taken_comes_back_with_its_mark() -> None:
    store = Store()
    taken = local(store)
    await taken.take(lambda: {"rows": {b"a": b"1"}}, MARK)
    await taken.written()
    state, again = Sums(), local(store)
    assert await again.restore(state, believed) == MARK
    assert state.snapshot() == {"rows": {b"a": b"1"}}
    assert again.due_s(MARK.state_end) is None
    assert again.due_s(MARK.state_end + 1) == 0.0


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {**MARK.meta, "birth": [7]},
        {**MARK.meta, "state_end": "far"},
        {name: value for name, value in MARK.meta.items() if name != "time_s"},
    ],
)
async def test_a_broken_mark_is_refused(meta: dict[str, Any]) -> None:
    assert await local(Store(({"rows": {}}, meta))).restore(Sums(), believed) is None


@pytest.mark.parametrize(("days", "holds"), [(5, True), (7, False), (-0.5, True), (-2, False)])
async def test_one_that_may_lack_removals_is_refused_and_goes(
    days: float, holds: bool, tmp_path: Path
) -> None:
    path = tmp_path / "toy.snapshot"
    path.touch()
    mark = replace(MARK, time_s=NOW_S - int(days * DAY_S))
    found = await local(Store(({"rows": {}}, mark.meta)), path=path).restore(Sums(), believed)
    assert (found is not None) == path.exists() == holds


async def test_one_of_another_log_is_refused_and_none_is_none() -> None:
    state = Sums()
    kept = {"rows": {b"a": b"1"}}, MARK.meta
    assert await local(Store(kept)).restore(state, refused) is None
    assert state.snapshot() == {"rows": {}}
    assert await local(Store()).restore(state, believed) is None


async def test_it_is_due_at_once_where_what_it_holds_must_not_stay() -> None:
    snapshot = local(Store(), every_s=60.0)
    assert 59.0 < (snapshot.due_s(1) or 0.0) <= 60.0
    snapshot.hurry()
    assert snapshot.due_s(1) == 0.0


async def test_a_write_that_failed_is_due_again_though_nothing_changed() -> None:
    store = Store()
    store.fails = 1
    snapshot = local(store)
    for due in (0.0, None):
        await snapshot.take(lambda: {"rows": {}}, MARK)
        assert snapshot.due_s(MARK.state_end + 1) is None  # one at a time
        await snapshot.written()
        assert snapshot.due_s(MARK.state_end) == due
    assert store.kept is not None


def test_what_nobody_writes_anew_is_swept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    whole = [f"toy.state-{lane}.snapshot" for lane in (0, 1, 12)]
    parts = [f".toy.state-{lane}.snapshot.{dead.pid}" for lane in (0, 12)]
    parts += [f".toy.state-1.snapshot.{os.getpid()}", f".toy.state-1.snapshot.{10**30}"]
    others = [
        "other.toy.state-0.snapshot", "toy.state-two-0.snapshot", "toy.state-x.snapshot",
        f".toy.state-0.snapshot.{os.getppid()}", ".toy.state-0.snapshot.part",
    ]  # fmt: skip
    for name in (*whole, *parts, *others):
        (tmp_path / name).touch()
    sweep(tmp_path, "toy.state", None)
    assert {path.name for path in tmp_path.iterdir()} == {*whole, *others}
    sweep(tmp_path, "toy.state", {1})
    assert {path.name for path in tmp_path.iterdir()} == {whole[1], *others}
    sweep(tmp_path / "none", "toy.state", {1})
