"""A lane applies every record once, whatever becomes of its transactions."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from streams import state_log
from streams.application import Outcome
from streams.broker import Broker
from streams.chunk import Chunk, Position, Record
from streams.client_transactions import ClientTransactions
from streams.compute import Compute
from streams.connection import Connection
from streams.direct_transactions import DirectTransactions
from streams.lane import BRIEF_S
from streams.transaction import (
    LaneFencedError,
    LaneProducer,
    LaneRefusedError,
    TransactionUncertainError,
)
from streams.worker import StalledError
from tests.streams.toy import (
    PARTITIONS,
    Adding,
    Later,
    Patient,
    Sums,
    Toy,
    expected,
    together,
    until,
)

COUNT = 400


@pytest.fixture
async def toy(local_broker: Broker, tmp_path: Path) -> Toy:
    return await Toy(local_broker.bootstrap, tmp_path).create()


def fail(monkeypatch: pytest.MonkeyPatch, *, after_commit: bool, every: int = 3) -> list[int]:
    """Let some commits end in an error that says nothing of what became of them."""
    failed = [0]
    for kind in (DirectTransactions, ClientTransactions):
        _fail(monkeypatch, kind, failed, after_commit, every)
    return failed


def _fail(
    monkeypatch: pytest.MonkeyPatch, kind: Any, failed: list[int], after_commit: bool, every: int
) -> None:
    commit = kind.commit

    async def failing(self: Any, *given: Any) -> Any:
        failed[0] += 1
        if failed[0] % every:
            return await commit(self, *given)
        if after_commit:
            await commit(self, *given)
        else:
            await self._send_all(given[0])
        raise KafkaTimeoutError

    monkeypatch.setattr(kind, "commit", failing)


async def read(toy: Toy, topic: str) -> list[bytes]:
    """The keys of all committed records."""
    keys = []
    for partition in range(PARTITIONS):
        await state_log.restore(
            Connection(toy.bootstrap),
            Position(topic, partition),
            lambda records: keys.extend(record.key for record in records),
        )
    return keys


@pytest.mark.parametrize(("direct", "kind"), [(True, Adding), (False, Adding), (True, Later)])
@pytest.mark.parametrize("after_commit", [True, False])
async def test_an_uncertain_round_counts_once(
    toy: Toy,
    monkeypatch: pytest.MonkeyPatch,
    after_commit: bool,
    direct: bool,
    kind: type[Adding],
) -> None:
    toy.direct = direct
    failed = fail(monkeypatch, after_commit=after_commit)
    async with toy.worker(kind=kind) as (_, application):
        sent = 0
        while sent < COUNT or failed[0] < 3:  # how many rounds those make is the machine's affair
            await toy.produce(40, sent)
            sent += 40
        await until(lambda: application.count >= sent)
        assert together(application) == expected(sent)
        for _ in range(300):  # the newest round may not be settled yet
            if len(await read(toy, toy.answers)) == sent:
                break
            await asyncio.sleep(0.1)
    assert len(await read(toy, toy.answers)) == sent


async def test_every_round_is_kept_or_taken_back_before_the_next(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[int, list[str]] = defaultdict(list)
    states: list[Sums] = []  # so that none has the id of another

    def tells(name: str) -> None:
        told_before = getattr(Sums, name)

        def telling(state: Sums) -> None:
            states.append(state)
            told[id(state)].append(name)
            told_before(state)

        monkeypatch.setattr(Sums, name, telling)

    for name in ("begin", "commit", "rollback"):
        tells(name)
    failed = fail(monkeypatch, after_commit=False)
    async with toy.worker() as (_, application):
        sent = 0
        while sent < COUNT or failed[0] < 6:
            await toy.produce(40, sent)
            sent += 40
        await until(lambda: application.count >= sent)
    for steps in told.values():
        assert set(steps[::2]) == {"begin"}
        assert set(steps[1::2]) <= {"commit", "rollback"}
        assert len(steps) % 2 == 0, "the last round is settled at the end"
    assert any("rollback" in steps for steps in told.values())


@pytest.mark.parametrize("fails", [False, True])
async def test_rounds_that_wait_for_one_commit_count_once(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Fewer commits than rounds; what an uncertain commit took back is read again."""
    failed = fail(monkeypatch, after_commit=False, every=2) if fails else [0]
    async with toy.worker(kind=Patient) as (worker, application):
        for first in range(0, COUNT, 10):
            await toy.produce(10, first)
        # What was taken back is counted again, so that records alone do not tell.
        await until(lambda: together(application) == expected(COUNT))
        await until(lambda: not any(lane._held for lane in worker.lanes.values()))
        if not fails:
            assert sum(lane.rounds for lane in worker.lanes.values()) < COUNT / 20
    assert failed[0] >= 2 * fails
    async with toy.worker(kind=Patient) as (_, application):
        assert together(application) == expected(COUNT)


async def test_rounds_taken_back_are_read_again_though_nothing_follows(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fail_first(monkeypatch, PARTITIONS)
    async with toy.worker(kind=Patient) as (worker, application):
        await toy.produce(COUNT)
        await until(lambda: failed[0] >= PARTITIONS)
        await until(lambda: worker.ready)  # nobody sends any more
        await until(lambda: together(application) == expected(COUNT), timeout_s=20)


def fail_first(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Let the first commits be uncertain, and write nothing; how many did so far."""
    failed, commit = [0], LaneProducer.commit

    async def failing(self: LaneProducer, *given: Any) -> Any:
        if failed[0] >= count:
            return await commit(self, *given)
        failed[0] += 1
        raise TransactionUncertainError("as told")

    monkeypatch.setattr(LaneProducer, "commit", failing)
    return failed


async def test_doubt_after_a_silence_is_no_stall(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    async with toy.worker(watchdog_s=3.0) as (worker, application):
        await toy.produce(20)
        await until(lambda: application.count >= 20)
        await asyncio.sleep(4.0)
        failed = fail_first(monkeypatch, PARTITIONS)
        await toy.produce(20, 20)
        await until(lambda: failed[0] >= PARTITIONS)
        await until(lambda: together(application) == expected(40))
        assert not worker.failure.done()


async def test_a_lane_that_opens_again_and_again_is_stalled(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with toy.worker(watchdog_s=3.0) as (worker, _):
        fail_first(monkeypatch, 1_000)
        await toy.produce(20)
        await until(worker.failure.done)
        assert isinstance(worker.failure.result(), StalledError)


@pytest.mark.parametrize("direct", [True, False])
async def test_a_record_that_its_topic_does_not_take_ends_the_lane_at_once(
    toy: Toy, direct: bool
) -> None:
    """Trying again would give the same, for ever."""
    toy.direct = direct
    async with toy.worker(kind=TooLarge) as (worker, _):
        await toy.produce(20)
        await until(worker.failure.done)
        failure = worker.failure.result()
        assert isinstance(failure, LaneRefusedError)
        assert toy.answers in str(failure)


class TooLarge(Adding):
    """Writes more than any topic here takes."""

    def apply(self, lane: int, state: Sums, chunks: Sequence[Chunk]) -> Outcome:
        outcome = Outcome()
        outcome.add(Position(self.answers, lane), Record(b"k", bytes(12 << 20)))
        return outcome


async def test_the_group_is_asked_again_where_its_coordinator_cannot_tell(toy: Toy) -> None:
    async with toy.worker() as (worker, _):
        consumer = worker.app.consumer
        coordinator = consumer._thread._consumer._coordinator
        coordinator.coordinator_dead()  # as after any request that failed
        assert await consumer.is_member()
        send, asked = coordinator._send_req, []

        async def loading(request: Any) -> Any:
            asked.append(request)
            return SimpleNamespace(error_code=14) if len(asked) < 3 else await send(request)

        coordinator._send_req = loading
        assert await consumer.is_member()
        coordinator._send_req = send
        coordinator.reset_generation()
        assert not await consumer.is_member()


async def test_rounds_that_wait_are_committed_before_the_end(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patient, "patience_s", 60.0)
    async with toy.worker(kind=Patient) as (worker, application):
        await toy.produce(COUNT)
        await until(lambda: application.count >= COUNT)
        assert all(lane.rounds == 0 for lane in worker.lanes.values())
        assert await read(toy, toy.state) == []
    rows = {
        key: value for lane in range(PARTITIONS) for _, key, value in await state_rows(toy, lane)
    }
    assert rows == {key: b"%d %d" % row for key, row in expected(COUNT).items()}


async def test_brief_rounds_are_applied_on_the_loop_and_others_beside_it(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with toy.worker(compute=Compute(thread=True)) as (_, application):
        apply, rounds, slow = application.apply, [], [False]

        def watched(*given: Any) -> Any:
            rounds.append(threading.current_thread() is threading.main_thread())
            if slow[0]:
                time.sleep(1.5 * BRIEF_S)
            return apply(*given)

        monkeypatch.setattr(application, "apply", watched)
        for first in range(0, 200, 20):
            await toy.produce(20, first)
        await until(lambda: application.count >= 200)
        assert sum(rounds) > len(rounds) / 2
        slow[0] = True
        await toy.produce(100, 200)
        await until(lambda: application.count >= 300)
        rounds.clear()
        for first in range(300, 400, 20):
            await toy.produce(20, first)
            await until(lambda first=first: application.count >= first + 20)  # type: ignore[misc]
        assert not any(rounds)
        assert together(application) == expected(400)


async def test_after_uncertainty_what_another_owner_did_is_known(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows must not be overwritten by what we remember of the time before it."""
    async with toy.worker() as (_, application):
        await toy.produce(COUNT)
        await until(lambda: application.count >= COUNT)
        commit = LaneProducer.commit
        met: list[str] = []

        async def interrupted(self: LaneProducer, *given: Any) -> Any:
            if met:
                return await commit(self, *given)
            met.append(self.transactional_id)
            lane = int(self.transactional_id.rpartition("-")[2])
            other = LaneProducer(Connection(toy.bootstrap), self.transactional_id)
            await other.start()
            row = Record(b"from the other", b"7 1")
            await commit(other, {Position(toy.state, lane): [row]}, {}, toy.name)
            await other.stop()
            raise TransactionUncertainError

        monkeypatch.setattr(LaneProducer, "commit", interrupted)
        await toy.produce(COUNT, COUNT)
        await until(lambda: application.count >= 2 * COUNT + 1)
        assert together(application) == {**expected(2 * COUNT), b"from the other": (7, 1)}


async def test_a_stranger_who_takes_the_lane_writes_nothing_more(toy: Toy) -> None:
    """The group decides whose a lane is: its owner takes it back, and each event counts once."""
    async with toy.worker() as (worker, application):
        thieves = []
        for lane in worker.lanes:
            thieves.append(LaneProducer(Connection(toy.bootstrap), f"{toy.name}-{lane}"))
            await thieves[-1].start()
        await toy.produce(COUNT)
        await until(lambda: sum(lane.records for lane in worker.lanes.values()) >= COUNT)
        assert not worker.failure.done()
        assert together(application) == expected(COUNT)
        for lane, thief in enumerate(thieves):
            with pytest.raises(LaneFencedError):
                await thief.commit({Position(toy.answers, lane): [Record(b"k", b"v")]}, {}, "g")
            await thief.stop()
    assert len(await read(toy, toy.answers)) == COUNT


async def test_a_lane_that_the_group_gave_away_writes_nothing_more(toy: Toy) -> None:
    """Out of the group, being fenced is final: no record of ours after the other owner's start."""
    async with toy.worker() as (worker, _):
        thieves = []
        for lane, mine in worker.lanes.items():
            mine._still_ours = nobody_says_so
            thieves.append(LaneProducer(Connection(toy.bootstrap), f"{toy.name}-{lane}"))
            await thieves[-1].start()
        await toy.produce(COUNT)
        await until(worker.failure.done)
        assert isinstance(worker.failure.result(), LaneFencedError)
        for thief in thieves:
            await thief.stop()
    assert await read(toy, toy.answers) == []
    assert await read(toy, toy.state) == []


async def nobody_says_so() -> bool:
    """What the group says to a member that it has removed."""
    return False


class Kept:
    """Snapshots in memory."""

    def __init__(self) -> None:
        self.written: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    def write(self, path: Path, snapshot: dict[str, Any], meta: dict[str, Any]) -> None:
        self.written.append((path.name, snapshot, meta))

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        found = [written[1:] for written in self.written if written[0] == path.name]
        return found[-1] if found else None


async def test_a_snapshot_holds_what_was_committed_and_nothing_else(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, after_commit=False, every=4)
    kept = Kept()
    options: dict[str, Any] = {
        "snapshot_dir": toy.folder,
        "snapshot_interval_s": 0.0,
        "round_records_max": 20,
    }
    async with toy.worker(kept, **options) as (_, application):
        for first in range(0, COUNT, 20):
            await toy.produce(20, first)
        await until(lambda: application.count >= COUNT)
    assert len(kept.written) > 10
    for lane in range(PARTITIONS):
        rows = await state_rows(toy, lane)
        for name, snapshot, meta in kept.written:
            if name == f"{toy.state}-{lane}.snapshot":
                sums = Sums()
                sums.load_records((k, v) for offset, k, v in rows if offset < meta["state_end"])
                assert snapshot["rows"] == sums.rows
    async with toy.worker(kept, **options) as (_, application):
        assert together(application) == expected(COUNT)


@pytest.mark.parametrize("with_snapshots", [False, True])
async def test_a_group_that_the_broker_has_forgotten_goes_on_where_it_was(
    toy: Toy, tmp_path: Path, with_snapshots: bool
) -> None:
    """A new group is what a group is that was away for a week: the broker knows no offset of it."""
    kept = Kept() if with_snapshots else None
    options: dict[str, Any] = {"notes_positions": True}
    if with_snapshots:
        options |= {"snapshot_dir": tmp_path / "snapshots", "snapshot_interval_s": 0.05}
    for part, group in enumerate(("", "second", "third")):
        await toy.produce(COUNT, part * COUNT)
        name = f"{toy.name}-{group}" if group else ""
        async with toy.worker(kept, group=name, **options) as (_, application):
            learned = (part + 1) * COUNT
            await until(lambda learned=learned: application.count >= learned)
            assert together(application) == expected(learned)


async def test_positions_noted_of_a_topic_that_was_made_anew_are_not_believed(toy: Toy) -> None:
    connection, source = Connection(toy.bootstrap), Position(toy.numbers, 0)
    await toy.produce(COUNT)
    noted = {toy.numbers: 10}
    assert await state_log.committed(connection, "nobody", [source], noted) == {source: 10}
    noted[toy.numbers] = 10 * COUNT
    assert await state_log.committed(connection, "nobody", [source], noted) == {source: 0}


async def state_rows(toy: Toy, lane: int) -> list[tuple[int, bytes, bytes]]:
    """Every committed row of a lane's state log, with its offset."""
    tp = TopicPartition(toy.state, lane)
    rows: list[tuple[int, bytes, bytes]] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=toy.bootstrap, isolation_level="read_committed"
    ) as consumer:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                rows += [(r.offset, r.key, r.value) for r in records]
    return [row for row in rows if not row[1].startswith(b"\xff\xff\xff")]


class Full(Kept):
    """A disk that has no room at first."""

    refusals = 2

    def write(self, path: Path, snapshot: dict[str, Any], meta: dict[str, Any]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("no room")
        super().write(path, snapshot, meta)


async def test_a_snapshot_that_failed_is_tried_again_though_nothing_new_came(toy: Toy) -> None:
    kept = Full()
    options: dict[str, Any] = {"snapshot_dir": toy.folder, "snapshot_interval_s": 0.05}
    async with toy.worker(kept, **options) as (_, application):
        await toy.produce(1)
        await until(lambda: application.count >= 1)
        await until(lambda: kept.refusals == 0 and bool(kept.written))
