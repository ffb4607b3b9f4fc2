"""Rounds of several lanes in one turn of the loop: lists made together are those made alone."""

import asyncio
import inspect
import itertools
import json
import time

import pytest

from recsys.scorer import Scorer
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from streams.application import Outcome
from streams.chunk import Chunk, Position
from streams.compute import Compute
from streams.partition import partition_of
from tests.records import NOW_MS, body, record
from tests.recsys.logs import World, seeded_log

LANES = 8


def name_of(user: str, lane: int) -> str:
    """A user who is at home in the lane."""
    names = (f"{user}{number}" for number in itertools.count())
    return next(name for name in names if partition_of(name.encode(), LANES) == lane)


class Lanes:
    """Some lanes with a past, over one pipeline."""

    def __init__(self, *, compute: Compute | None, lists_per_s_max: float = 1_000.0) -> None:
        self.world = World()
        self.world.learn(seeded_log(300))
        config = UserLanesConfig(partitions=LANES, lists_per_s_max=lists_per_s_max)
        self.application = UserLanes(self.world.pipeline, config, compute=compute)
        self.states = [self.application.open(lane) for lane in range(LANES)]
        for lane, state in enumerate(self.states):
            self.application.opened(lane, state)

    def chunk(self, lane: int, users: str, first: int = 0) -> Chunk:
        """One event of each user of the lane."""
        records = []
        for at, user in enumerate(users, first):
            name, time_ms = name_of(user, lane), NOW_MS + 1000 * at
            value = body(user_id=name, item_id=f"i{lane + at % 7}", timestamp=time_ms)
            records.append(record(value, name.encode(), partition=lane, offset=at))
        return Chunk(Position("recsys.behaviour.v1", lane), first, records)

    async def round(self, lane: int, *chunks: Chunk) -> Outcome:
        """One round of a lane, committed."""
        state = self.states[lane]
        state.begin()
        outcome = self.application.apply(lane, state, chunks)
        if inspect.isawaitable(outcome):
            outcome = await outcome
        state.commit()
        return outcome


def lists_of(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """What was written, but for the moment it was written at."""
    found = []
    for lane, outcome in enumerate(outcomes):
        for written in outcome.writes[Position("recsys.recommendations.v1", lane)]:
            found.append(json.loads(written.value or b""))
            del found[-1]["produced_time"]
    return found


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    score = Scorer.score_part

    def noted(self, contexts):
        counts.append(len(contexts))
        return score(self, contexts)

    monkeypatch.setattr(Scorer, "score_part", noted)
    return counts


async def test_lists_of_several_lanes_are_made_in_one_pass_and_are_the_same(
    scored: list[int],
) -> None:
    alone, together = Lanes(compute=None), Lanes(compute=Compute())
    users = ("abca", "de", "fgh", "i", "jk", "l", "m", "no")
    for first in (0, 10):
        scored.clear()
        wanted = [
            await alone.round(lane, alone.chunk(lane, users[lane], first)) for lane in range(LANES)
        ]
        passes = len(scored)
        scored.clear()
        found = await asyncio.gather(
            *(
                together.round(lane, together.chunk(lane, users[lane], first))
                for lane in range(LANES)
            )
        )
        assert len(scored) < passes
        assert max(scored) >= sum(map(len, users)) - 1  # of who comes twice only the last waits
        assert lists_of(found) == lists_of(wanted)
        updates = Position("recsys.item-updates.v1", 0)
        for one, other in zip(found, wanted, strict=True):
            assert [r.value for r in one.writes[updates]] == [
                r.value for r in other.writes[updates]
            ]
        for one, other in zip(together.states, alone.states, strict=True):
            assert one.users.digest() == other.users.digest()


async def test_each_round_tells_its_own_seconds() -> None:
    lanes = Lanes(compute=Compute())
    begun = time.monotonic()
    found = await asyncio.gather(
        *(lanes.round(lane, lanes.chunk(lane, "ab" * (lane + 1))) for lane in range(LANES))
    )
    seconds = [outcome.seconds or 0.0 for outcome in found]
    assert all(each > 0 for each in seconds)
    assert sum(seconds) < time.monotonic() - begun


async def test_users_over_the_budget_wait_there_too() -> None:
    lanes = Lanes(compute=Compute(), lists_per_s_max=8.0)  # four at once
    found = await asyncio.gather(
        *(lanes.round(lane, lanes.chunk(lane, "abc")) for lane in range(LANES))
    )
    written = sum(
        len(outcome.writes.get(Position("recsys.recommendations.v1", lane), []))
        for lane, outcome in enumerate(found)
    )
    assert 4 <= written < 3 * LANES
    assert written + sum(len(state.owed) for state in lanes.states) == 3 * LANES


async def test_few_lanes_do_not_wait_for_each_other() -> None:
    lanes = Lanes(compute=Compute())
    lanes.application.closed(LANES - 1)
    lanes.states[0].begin()
    outcome = lanes.application.apply(0, lanes.states[0], [lanes.chunk(0, "ab")])
    assert isinstance(outcome, Outcome)


async def test_a_lane_that_gives_up_loses_nothing_of_the_others() -> None:
    alone, together = Lanes(compute=None), Lanes(compute=Compute())
    wanted = [await alone.round(lane, alone.chunk(lane, "abc")) for lane in range(LANES)]
    tasks = [
        asyncio.create_task(together.round(lane, together.chunk(lane, "abc")))
        for lane in range(LANES)
    ]
    await asyncio.sleep(0)  # all have asked
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    found[1] = wanted[1]
    assert lists_of(found) == lists_of(wanted)
    together.states[1].rollback()
    again = await together.round(1, together.chunk(1, "abc"))
    found[1] = again
    assert lists_of(found) == lists_of(wanted)


async def test_what_fails_fails_all_of_them_and_the_next_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes = Lanes(compute=Compute())

    def fails(*_: object) -> None:
        raise RuntimeError("no list today")

    with monkeypatch.context() as failing:
        failing.setattr(lanes.world.pipeline, "answer", fails)
        found = await asyncio.gather(
            *(lanes.round(lane, lanes.chunk(lane, "ab")) for lane in range(LANES)),
            return_exceptions=True,
        )
    assert [str(each) for each in found] == ["no list today"] * LANES
    for state in lanes.states:
        state.rollback()
    again = [await lanes.round(lane, lanes.chunk(lane, "ab")) for lane in range(LANES)]
    assert len(lists_of(again)) == 2 * LANES


async def test_beside_the_loop_nobody_waits() -> None:
    lanes = Lanes(compute=Compute())
    state = lanes.states[0]
    state.begin()
    outcome = await asyncio.to_thread(lanes.application.apply, 0, state, [lanes.chunk(0, "ab")])
    assert isinstance(outcome, Outcome)
    assert len(lists_of([outcome])) == 2
