"""A short part of `recsys soak`, by seed; and the account itself must be able to fail."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from recsys import conservation
from recsys.conservation import Account
from recsys.soak import clock_steps
from recsys.soak.faults import Faults
from recsys.soak.shop import Shop
from streams import topics
from streams.broker import Broker
from streams.crash_points import POINTS

SEED = 20


@pytest.fixture
async def shop(local_broker: Broker, prefix: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with Shop(local_broker.bootstrap, prefix, tmp_path, seed=SEED) as shop:
        worker = shop.supervisor.add()
        worker.start()
        await worker.until_ready()
        yield shop


@pytest.mark.timeout(600)
async def test_a_short_soak(shop: Shop) -> None:
    faults = Faults(shop, SEED)
    await faults.kill_at(random.Random(SEED).choice(POINTS))
    await faults.poison(150)
    await faults.corrupt_snapshots()
    (worker,) = shop.workers
    worker.clock_steps = True  # from its next start on, which the freeze brings
    await faults.freeze()
    *_, amiss = await clock_steps.step(shop, worker, clock_steps.CLOCK_STEPS["a day forth"], 3.0)
    assert not amiss
    account = await shop.account()
    assert account.holds, account.findings
    assert account.accepted > 150
    assert account.applied
    assert account.dead_letters
    assert account.passed_on
    assert account.lists
    assert account.requests
    for tally in faults.tallies.values():
        assert tally.survived == tally.tried, tally

    shop.feed.paused = True
    await shop.supervisor.stop_all()
    await _a_forged_list_is_found(shop)
    await _a_forged_dead_letter_is_found(shop)
    await _a_list_out_of_nothing_is_found(shop)
    await _a_lost_event_is_found(shop)
    await _a_lost_user_is_found(shop)


async def _check(shop: Shop, accepted: tuple[tuple[int, int], ...] = ()) -> Account:
    return await conservation.check(shop.connection, shop.prefix, shop.partitions, accepted)


async def _copy(shop: Shop, topic: str, partition: int, empty: bool = False) -> None:
    """Write a committed record of a partition once more, or a tombstone of its key."""
    options = shop.connection.options()
    async with (
        AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(**options) as producer,
    ):
        consumer.assign([TopicPartition(topic, partition)])
        record = await consumer.getone()
        while topic.endswith("user-state.v1") and not record.key.endswith(b"\0\0"):
            record = await consumer.getone()
        value = None if empty else record.value
        await producer.send_and_wait(
            topic, value, key=record.key, partition=partition, headers=list(record.headers)
        )


async def _a_forged_list_is_found(shop: Shop) -> None:
    before = await _check(shop)
    await _copy(shop, topics.RECOMMENDATIONS.name(shop.prefix), 0)
    assert (await _check(shop)).doubled > before.doubled


async def _a_forged_dead_letter_is_found(shop: Shop) -> None:
    before = await _check(shop)
    await _copy(shop, topics.dead_letter_name(topics.BEHAVIOUR.name(shop.prefix)), 0)
    assert (await _check(shop)).doubled == before.doubled + 1


async def _a_list_out_of_nothing_is_found(shop: Shop) -> None:
    before = await _check(shop)
    name = topics.RECOMMENDATIONS.name(shop.prefix)
    newest = (await conservation.read_topic(shop.connection, name, 1))[-1]
    forged = json.loads(newest.value)
    forged |= {"list_id": "forged", "trigger": {**forged["trigger"], "kind": "upload"}}
    async with AIOKafkaProducer(**shop.connection.options()) as producer:
        await producer.send_and_wait(name, json.dumps(forged).encode(), newest.key, partition=0)
    assert (await _check(shop)).doubled == before.doubled + 1


async def _a_lost_event_is_found(shop: Shop) -> None:
    before = await _check(shop)
    assert (await _check(shop, ((0, 10**9),))).lost == before.lost + 1


async def _a_lost_user_is_found(shop: Shop) -> None:
    before = await _check(shop)
    await _copy(shop, topics.USER_STATE.name(shop.prefix), 0, empty=True)
    after = await _check(shop)
    assert after.lost > before.lost
    assert after.digests != before.digests
