"""Two generations side by side: compared, promoted, and gone back from, under load and a kill."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from recsys.settings import Settings
from recsys.wanted import wanted_topics
from streams import dead_letters, topics
from streams.chunk import Record
from streams.events import HEADER_ORIGIN
from streams.partition import partition_of
from tests.e2e.harness import PARTITIONS, Shop, until
from tests.e2e.test_main_job import (  # noqa: F401
    assert_lists_are_unique,
    event,
    events_by_user,
    events_in_state,
    new_shop,
    random_events,
)

ROLES = ("behaviour", "items")
WIDE = PARTITIONS + 3


async def recsys(shop: Shop, *arguments: str, code: int = 0, **settings: str) -> Any:
    """Run a command of ours; its JSON, or what it says where it shall fail."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    environ |= {
        "RECSYS_BROKER": shop.bootstrap, "RECSYS_PREFIX": shop.prefix,
        "RECSYS_APPLICATION": shop.prefix, "RECSYS_PARTITIONS": str(PARTITIONS),
        "RECSYS_DATA_DIR": str(shop.folder / "commands"),
    } | {f"RECSYS_{name}": value for name, value in settings.items()}  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "recsys", *arguments, "--json"], env=environ,
        cwd=shop.folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout) if code == 0 else done.stderr


async def settled(shop: Shop, group: str) -> None:
    """Wait until a group has taken every event."""

    async def look() -> bool:
        ends: dict[TopicPartition, int] = {}
        for record in await shop.read(topics.BEHAVIOUR):
            ends[TopicPartition(record.topic, record.partition)] = record.offset + 1
        client = AIOKafkaAdminClient(bootstrap_servers=shop.bootstrap)
        await client.start()
        try:
            done = await client.list_consumer_group_offsets(group)
        finally:
            await client.close()
        return all(tp in done and done[tp].offset >= end for tp, end in ends.items())

    await until(look, f"{group} to take every event")


def places(lists: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(each["trigger"]["partition"], each["trigger"]["offset"]) for each in lists]


def assert_answered(owners: dict[tuple[int, int], str], lists: list[dict[str, Any]]) -> None:
    """Every event has its list; on a machine that stalls a newer one of the user's may stand in."""
    answered = set(places(lists))
    assert len(answered) == len(lists)
    assert answered <= owners.keys()
    assert len(answered) > len(owners) / 2
    newest: dict[str, int] = {}
    for at in answered:
        newest[owners[at]] = max(at[1], newest.get(owners[at], -1))
    assert not [at for at, user in owners.items() if at[1] > newest.get(user, -1)]


@pytest.mark.usefixtures("broker")
class TestGenerations:
    async def test_a_shadow_takes_over_and_gives_back(self, new_shop: Any) -> None:  # noqa: F811
        shop: Shop = await new_shop(WORKER__SNAPSHOT_INTERVAL_S="1")
        main = shop.start(ROLES)
        await main.until_ready()
        events = random_events(8, 900)
        owners: dict[tuple[int, int], str] = {}

        async def feed(part: list[dict[str, Any]]) -> None:
            """Slowly enough that every event has a list of its own."""
            for first in range(0, len(part), 10):
                now = part[first : first + 10]
                for each, at in zip(now, await shop.produce_events(now), strict=True):
                    owners[at.partition, at.offset] = each["user_id"]
                await asyncio.sleep(0.2)

        await feed(events[:300])
        await shop.settled()

        told = await recsys(shop, "replay", "--shadow", "v2")
        assert told["live"] == "main"
        assert all(lane["same_events"] and lane["digests_equal"] for lane in told["lanes"])
        assert len(told["lanes"]) == PARTITIONS
        assert told["items_equal"]
        assert 0 < told["users"]["records_compared"] == told["users"]["records_equal"]
        assert told["quality"]["main"]["answers"] == told["quality"]["v2"]["answers"] > 0
        assert told["quality"]["main"]["hits"] > 0

        nobody = await recsys(shop, "promote", "v2", code=1)
        assert "no worker of v2 runs: start its workers first" in nobody
        shadow = shop.start(ROLES, data="v2", GENERATION="v2")
        await shadow.until_ready()
        before = await recsys(shop, "promote", "main", code=1)
        assert "writes the live lists already" in before
        assert "missing" in await recsys(shop, "promote", "v3", code=1)

        feeding = asyncio.create_task(feed(events[300:540]))
        await asyncio.sleep(2)
        there = await recsys(shop, "promote", "v2")
        assert (there["generation"], there["before"]) == ("v2", "main")
        await feeding
        await feed(events[540:600])
        shadow.kill()  # what it knew of the switch must be in its state
        shadow = shop.start(ROLES, data="v2", GENERATION="v2")
        assert (await main.stop())[0] == 0, main.log[-3000:]
        nobody = await recsys(shop, "promote", "main", code=1)
        assert "no worker of main runs: start its workers first, recsys worker" in nobody
        main = shop.start(ROLES)
        await asyncio.gather(shadow.until_ready(), main.until_ready())
        feeding = asyncio.create_task(feed(events[600:840]))
        await asyncio.sleep(2)
        back = await recsys(shop, "promote", "main")
        assert (back["generation"], back["before"]) == ("main", "v2")
        await feeding
        await feed(events[840:])
        await shop.settled()
        await settled(shop, f"{shop.prefix}.v2-behaviour")

        live = await shop.lists()
        assert_lists_are_unique(live)
        assert_answered(owners, live)
        assert not await shop.dead_letters()

        aside = places(
            [
                json.loads(record.value)
                for record in await shop.read(topics.RECOMMENDATIONS.name(f"{shop.prefix}.v2"))
            ]
        )
        name = shop.topic(topics.BEHAVIOUR)
        spans = {
            p: (there["offsets"][f"{name}/{p}"], back["offsets"][f"{name}/{p}"])
            for p in range(PARTITIONS)
        }
        inside = [at for at in aside if spans[at[0]][0] <= at[1] < spans[at[0]][1]]
        assert not inside, "lists of a live generation that did not go to the live topic"
        assert [at for at in aside if at[1] < spans[at[0]][0]]
        assert [at for at in aside if at[1] > spans[at[0]][1]]
        fenced = [at for at in set(places(live)) if spans[at[0]][0] < at[1] < spans[at[0]][1]]
        assert fenced

        # Both learned everything, whoever wrote the lists.
        told = await recsys(shop, "replay", "--shadow", "v2")
        assert told["items_equal"]
        assert all(lane["same_events"] and lane["digests_equal"] for lane in told["lanes"])

    @pytest.mark.timeout(600)
    async def test_one_with_another_number_of_lanes_takes_over_and_gives_back(
        self,
        new_shop: Any,  # noqa: F811
    ) -> None:
        shop: Shop = await new_shop(WORKER__SNAPSHOT_INTERVAL_S="1")
        wide = Shop(shop.bootstrap, f"{shop.prefix}.wide", shop.folder, WIDE)
        given = {"GENERATION": "wide", "PARTITIONS": str(WIDE)}
        main = shop.start(ROLES)
        await main.until_ready()
        events = random_events(9, 900)
        owners: dict[tuple[int, int], str] = {}

        async def feed(part: list[dict[str, Any]]) -> None:
            for first in range(0, len(part), 10):
                now = part[first : first + 10]
                for each, at in zip(now, await shop.produce_events(now), strict=True):
                    owners[at.partition, at.offset] = each["user_id"]
                await asyncio.sleep(0.2)

        async def both_settled() -> None:
            await shop.settled()
            await settled(shop, f"{shop.prefix}.wide-mirror")
            await settled(wide, f"{shop.prefix}.wide-behaviour")

        async def astray(number: int) -> tuple[list[str], list[Any]]:
            """Events in the partition after their own, broken ones, and what no copy can hold."""
            users = [f"astray{number}-{at}" for at in range(8)]
            for at, user in enumerate(users):
                lane = partition_of(user.encode(), PARTITIONS)
                body = json.dumps(event(user, f"i{at}", at)).encode()
                headers = [("heavy", bytes(3_000_000))] if at % 4 == 0 else []
                record = Record(user.encode(), body, headers)
                away = (lane + 1) % PARTITIONS
                await shop.produce(topics.BEHAVIOUR, [record], away, "gzip")
                if headers:
                    (at_home,) = await shop.produce(topics.BEHAVIOUR, [record], lane, "gzip")
                    owners[at_home.partition, at_home.offset] = user
            heavy = [Record(b"u1", b" " * 3_000_000), Record(b"u1" * 1_000_000, b"{}")]
            broken = [Record(b"u1", b"broken"), Record(None, b"broken"), *heavy]
            lane = partition_of(b"u1", PARTITIONS)
            return users, [
                (await shop.produce(topics.BEHAVIOUR, [each], lane, "gzip"))[0] for each in broken
            ]

        def assert_alike(told: dict[str, Any]) -> None:
            assert told["lane_counts"] == {"wide": WIDE, "main": PARTITIONS}
            assert [lane["digests_equal"] for lane in told["lanes"]] == [None] * PARTITIONS
            assert all(lane["same_events"] for lane in told["lanes"])
            assert told["items_equal"]
            assert 0 < told["users"]["records_compared"] == told["users"]["records_equal"]

        await feed(events[:300])
        await shop.settled()
        told = await recsys(shop, "replay", "--shadow", "wide", PARTITIONS=str(WIDE))
        assert_alike(told)
        assert told["quality"]["main"]["answers"] == told["quality"]["wide"]["answers"] > 0
        assert "partitions" in await recsys(shop, "replay", "--shadow", "wide", code=1)

        shadow = shop.start(ROLES, data="wide", **given)
        await shadow.until_ready()
        feeding = asyncio.create_task(feed(events[300:540]))
        strayed, broken = await astray(1)  # main's to pass on and to refuse
        await asyncio.sleep(2)
        there = await recsys(shop, "promote", "wide")
        assert (there["generation"], there["before"]) == ("wide", "main")
        shadow.kill()
        await feeding
        await feed(events[540:600])
        more = await astray(2)  # the wide one's
        assert (await main.stop())[0] == 0, main.log[-3000:]
        shadow = shop.start(ROLES, data="wide", **given)
        main = shop.start(ROLES)
        await asyncio.gather(shadow.until_ready(), main.until_ready())
        await both_settled()
        feeding = asyncio.create_task(feed(events[600:840]))
        await asyncio.sleep(2)
        back = await recsys(shop, "promote", "main", PARTITIONS=str(WIDE))
        assert (back["generation"], back["before"]) == ("main", "wide")
        await feeding
        await feed(events[840:])
        await both_settled()

        name = shop.topic(topics.BEHAVIOUR)
        spans = {
            p: (there["offsets"][f"{name}/{p}"], back["offsets"][f"{name}/{p}"])
            for p in range(PARTITIONS)
        }
        assert all(spans[at.partition][0] < at.offset < spans[at.partition][1] for at in more[1])
        refused = [dead_letters.parse(each) for each in await shop.dead_letters()]
        broken += more[1]
        assert sorted((each.partition, each.offset) for each in refused) == sorted(
            (each.partition, each.offset) for each in broken
        )
        assert all(not each.headers for each in refused)
        passed = {
            (record.partition, record.offset): record
            for record in await shop.read(topics.BEHAVIOUR)
            if any(header == HEADER_ORIGIN for header, _ in record.headers)
        }
        assert Counter(each.key.decode() for each in passed.values()) == dict.fromkeys(
            [*strayed, *more[0]], 1
        )
        live = await shop.lists()
        assert_lists_are_unique(live)
        owners |= {at: record.key.decode() for at, record in passed.items()}
        assert_answered(owners, live)
        assert [at for at in places(live) if spans[at[0]][0] < at[1] < spans[at[0]][1]]
        for record in await shop.read(topics.RECOMMENDATIONS):
            assert record.partition == partition_of(record.key, PARTITIONS)
        aside = [json.loads(record.value) for record in await wide.read(topics.RECOMMENDATIONS)]
        assert not [at for at in places(aside) if spans[at[0]][0] <= at[1] < spans[at[0]][1]]
        assert [at for at in places(aside) if at[1] < spans[at[0]][0]]
        assert [at for at in places(aside) if at[1] > spans[at[0]][1]]

        assert_alike(await recsys(shop, "replay", "--shadow", "wide", PARTITIONS=str(WIDE)))
        known = await recsys(shop, "state", "--user", "u1", **given)
        assert known["lane"] == partition_of(b"u1", WIDE)
        assert known["events_applied"] == events_by_user(events)["u1"]
        asked = await recsys(shop, "forget", "--user", "u1", **given)
        assert asked["days_until_deleted"][wide.topic(topics.BEHAVIOUR)] == 30

        async def forgotten() -> bool:
            gone = [await shop.user("u1"), await wide.user("u1")]
            return gone == [{}, {}]

        await until(forgotten, "u1 to be forgotten by both")

    @pytest.mark.parametrize("lanes", [PARTITIONS, WIDE])
    async def test_an_open_shop_holds_no_shadow_up(self, new_shop: Any, lanes: int) -> None:  # noqa: F811
        shop: Shop = await new_shop()
        shop.folder.mkdir(parents=True)
        events = random_events(10, 300)
        ends = [0] * PARTITIONS
        for at in await shop.produce_events(events):
            ends[at.partition] = max(ends[at.partition], at.offset + 1)

        async def visit() -> None:
            for number in itertools.count():
                await shop.produce_events([event(f"u{number % 40}", f"i{number % 7}", number)])
                await asyncio.sleep(0.2)

        visits = asyncio.create_task(visit())
        told = await recsys(shop, "replay", "--shadow", "v2", PARTITIONS=str(lanes))
        visits.cancel()
        assert all(
            lane["offsets"]["v2"] >= end for lane, end in zip(told["lanes"], ends, strict=True)
        )
        shadow = Shop(shop.bootstrap, f"{shop.prefix}.v2", shop.folder, lanes)
        learned = await events_in_state(shadow)
        assert all(learned[user] >= count for user, count in events_by_user(events).items())
        items = await shadow.items()
        assert items.tables["popularity"]["events"].sum() >= len(events)

    async def test_a_generation_has_no_photos_of_its_own(self, new_shop: Any) -> None:  # noqa: F811
        shop: Shop = await new_shop()
        worker = shop.start(("behaviour", "items", "images"), GENERATION="v2")
        assert await worker.exit_code() == 1
        assert "--role behaviour --role items" in worker.log


def test_a_generation_keeps_apart_what_it_learns_and_shares_the_rest() -> None:
    main = {each.name for each in wanted_topics(Settings())}
    both = {each.name for each in wanted_topics(Settings(generation="v2"))}
    assert main <= both
    assert {name.removeprefix("recsys.v2.") for name in both - main} == {
        "user-state.v1", "item-updates.v1", "item-state.v1", "item-factors.v1",
        "recommendations.v1",
    }  # fmt: skip


def test_one_with_another_number_of_lanes_has_inputs_of_its_own_too() -> None:
    shared = {each.name: each for each in wanted_topics(Settings(generation="v2"), 24)}
    wide = {each.name: each for each in wanted_topics(Settings(generation="v2", partitions=48), 24)}
    assert {name.removeprefix("recsys.v2.") for name in wide.keys() - shared.keys()} == {
        "behaviour.v1", "requests.v1", "image-embeddings.v1", "forget.v1",
    }  # fmt: skip
    for name, each in wide.items():
        lanes = 48 if name.startswith("recsys.v2.") else 24
        assert each.partitions == (lanes if each.keyed == "user" else 1)
    copied = wide["recsys.v2.requests.v1"]
    assert copied.configs["retention.ms"] == wide["recsys.requests.v1"].configs["retention.ms"]
    assert int(copied.configs["max.message.bytes"]) > topics.REQUESTS.message_bytes_max
    main = {each.name for each in wanted_topics(Settings(partitions=48), 24)}
    assert main <= shared.keys(), "main reads what is there, and says where the count differs"
