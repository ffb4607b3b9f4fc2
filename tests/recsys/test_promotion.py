"""A promotion is two transactions: one that was cut off in between is done again, or undone."""

from typing import Any

import pytest

from recsys import promotion
from recsys.promotion import PromotionError, promote, read_control
from recsys.settings import Settings
from recsys.shadow import live_generation
from recsys.wanted import wanted_topics
from streams import admin
from streams.broker import Broker
from streams.connection import Connection
from streams.producer import BatchProducer
from streams.transaction import LaneProducer


class KilledError(BaseException):
    """The end of the process."""


@pytest.fixture
async def shop(local_broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The topics of main and v2, and workers of both, as far as a promotion can see."""
    given = Settings(broker=local_broker.bootstrap, prefix=prefix, application=prefix, partitions=2)
    v2 = given.model_copy(update={"generation": "v2"})
    await admin.create_topics(Connection(local_broker.bootstrap), wanted_topics(v2, 2))

    async def one(*_: Any) -> int:
        return 1

    monkeypatch.setattr(admin, "group_members", one)
    return given


def kill_at_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    real, commits = LaneProducer.commit, [0]

    async def commit(self: LaneProducer, *given: Any) -> Any:
        commits[0] += 1
        if commits[0] == 2:
            raise KilledError
        return await real(self, *given)

    monkeypatch.setattr(promotion.LaneProducer, "commit", commit)


async def test_who_was_cut_off_writes_the_lists_and_can_be_gone_back_from(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        kill_at_the_second(patched)
        with pytest.raises(KilledError):
            await promote(shop, "v2", 10)
    back = await promote(shop, "main", 10)
    assert (back.before, back.cut_off) == ("v2", "v2")
    assert await live_generation(shop) == "main"
    with pytest.raises(PromotionError, match="main writes the live lists already"):
        await promote(shop, "main", 10)
    there = await promote(shop, "v2", 10)
    assert (there.before, there.cut_off) == ("main", None)


async def test_events_that_wait_for_a_worker_that_is_gone_are_told(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await promote(shop, "v2", 10)).unanswered is None

    async def main_alone(_: Any, group: str) -> int:
        return int("v2" not in group)

    monkeypatch.setattr(admin, "group_members", main_alone)
    async with BatchProducer(Connection(shop.broker), f"{shop.prefix}.behaviour.v1") as producer:
        for number in range(5):
            producer.add(f"u{number}".encode(), b"{}")
    assert (await promote(shop, "main", 100)).unanswered >= 5


async def test_who_was_cut_off_can_be_promoted_again(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        kill_at_the_second(patched)
        with pytest.raises(KilledError):
            await promote(shop, "v2", 10)
    with monkeypatch.context() as patched:

        async def nobody(*_: Any) -> int:
            return 0

        patched.setattr(admin, "group_members", nobody)
        with pytest.raises(PromotionError, match="the last promotion, to v2, was cut off"):
            await promote(shop, "main", 10)
    again = await promote(shop, "v2", 10)
    assert again.cut_off == "v2"
    control = await read_control(shop.connection(), shop.prefix)
    assert control.cut_off(shop.prefix) is None
    for at, offset in again.offsets.items():
        assert control.of(at.partition).live(at.topic, offset) == "v2"
    with pytest.raises(PromotionError, match="v2 writes the live lists already"):
        await promote(shop, "v2", 10)
