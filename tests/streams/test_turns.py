"""Turns: starts keep their distance and their order, and only so many run at once."""

import asyncio
import time

import pytest

from streams.turns import (
    GROUP_MAX,
    GROUP_SHARE,
    HURRIED_ROUND_S,
    HURRY_S,
    ROUND_S,
    TURN_S,
    Turns,
)


async def test_starts_are_spread_in_the_order_of_asking() -> None:
    turns, begun = Turns(per_s=20.0), []

    async def one(name: int) -> None:
        await turns.start()
        begun.append((name, time.monotonic()))

    asked_at = time.monotonic()
    await asyncio.gather(*(one(name) for name in range(5)))
    assert [name for name, _ in begun] == list(range(5))
    for place, (_, at) in enumerate(begun):
        assert at - asked_at > 0.9 * place / 20.0


async def test_who_asks_after_a_silence_does_not_wait() -> None:
    turns = Turns(per_s=0.001)
    await asyncio.wait_for(turns.start(), 10.0)


async def test_so_many_run_at_once() -> None:
    turns, running, most = Turns(2), 0, 0

    async def one() -> None:
        nonlocal running, most
        async with turns.turn(brief=False):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

    await asyncio.gather(*(one() for _ in range(6)))
    assert (running, most) == (0, 2)


async def most_at_once(turns: Turns, each_s: float, count: int = 6) -> int:
    """How many brief ones were under way at once."""
    running = most = 0

    async def one() -> None:
        nonlocal running, most
        async with turns.turn(brief=True):
            running += 1
            most = max(most, running)
            await asyncio.sleep(each_s)
            running -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    assert running == 0
    return most


async def test_a_brief_one_is_alone_among_its_like_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.turns.ALONE_S", 10.0)
    turns = Turns(8)
    async with turns.turn(brief=False):
        assert await most_at_once(turns, 0.01) == 1
    monkeypatch.setattr("streams.turns.ALONE_S", 0.0)
    assert await most_at_once(turns, 0.2) == 6
    assert await most_at_once(Turns(2), 0.2) == 2
    assert await asyncio.wait_for(most_at_once(turns, 0.0), 10.0) >= 1


async def test_where_many_wait_brief_ones_come_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.turns.ALONE_S", 10.0)
    assert await most_at_once(Turns(8), 0.01, 2 * GROUP_SHARE) == 1
    assert await most_at_once(Turns(8), 0.01, 3 * GROUP_SHARE) == 2
    assert await most_at_once(Turns(8), 0.01, 10 * GROUP_SHARE * GROUP_MAX) == GROUP_MAX


async def test_who_gives_up_while_it_waits_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.turns.ALONE_S", 10.0)
    turns, done = Turns(8), []

    async def one(name: int) -> None:
        async with turns.turn(brief=True):
            await asyncio.sleep(0.01)
            done.append(name)

    tasks = [asyncio.create_task(one(name)) for name in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()  # it waits
    await asyncio.wait([tasks[0]])
    tasks[2].cancel()  # it was just admitted
    await asyncio.wait(tasks, timeout=10.0)
    assert done == [0, 3]
    assert await asyncio.wait_for(most_at_once(turns, 0.0), 10.0) >= 1


async def test_rounds_are_short_for_a_while_after_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_lanes = Turns(8, 200)
    assert all_lanes.round_s == ROUND_S
    all_lanes.hurry()
    assert all_lanes.round_s == HURRIED_ROUND_S
    later = time.monotonic() + HURRY_S
    monkeypatch.setattr("streams.turns.time.monotonic", lambda: later + 0.1)
    assert all_lanes.round_s == ROUND_S


async def test_the_more_lanes_are_busy_the_shorter_is_each_ones_round() -> None:
    turns, seen = Turns(1), []

    async def one() -> None:
        async with turns.turn(brief=False):
            await asyncio.sleep(0)
            seen.append(turns.round_s)

    async with turns.turn(brief=False):
        assert turns.round_s == ROUND_S
        given_up = asyncio.create_task(one())
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert turns.round_s == ROUND_S, "who no longer waits has no share"
    await asyncio.gather(*(one() for _ in range(10)))
    assert seen == [pytest.approx(min(ROUND_S, TURN_S / lanes)) for lanes in range(10, 0, -1)]
