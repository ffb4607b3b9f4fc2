"""The right to be forgotten, on a broker: everywhere, after a restore, and after a replay."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.settings import Images
from streams import codec, topics
from streams.chunk import Record
from streams.events import ImageEmbedding
from streams.partition import partition_of
from tests.e2e.harness import PARTITIONS, Shop, until
from tests.e2e.test_main_job import NOW_MS, event, new_shop  # noqa: F401

USER = "someone-who-leaves"
OTHER = "someone-who-stays"


async def recsys(shop: Shop, *arguments: str) -> dict[str, Any]:
    """Run a command of ours; its JSON."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    environ |= {
        "RECSYS_BROKER": shop.bootstrap, "RECSYS_PREFIX": shop.prefix,
        "RECSYS_PARTITIONS": str(PARTITIONS),
    }  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "recsys", *arguments, "--json"], env=environ,
        cwd=shop.folder, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


async def logged(shop: Shop, user: str) -> dict[bytes, bytes]:
    """What the state log holds of a user once it is compacted."""
    newest: dict[bytes, bytes | None] = {}
    for record in await shop.read(topics.USER_STATE):
        if record.key.startswith(user.encode()):
            newest[record.key] = record.value
    return {key: value for key, value in newest.items() if value is not None}


def photo(user: str, at_ms: int) -> Record:
    vector = np.ones(8, "<f4").tobytes()
    encoder = Images().encoder_id
    embedding = ImageEmbedding(
        user_id=user, upload_id=f"p{at_ms}", timestamp=at_ms, encoder=encoder, vector=vector
    )
    return Record(user.encode(), codec.encode(embedding))


def on_disk(shop: Shop, user: str, data: str = "data") -> list[Path]:
    files = [path for path in (shop.folder / data).rglob("*") if path.is_file()]
    return [path for path in files if user.encode() in path.read_bytes()]


@pytest.mark.usefixtures("broker")
class TestForget:
    async def test_nothing_stays_and_nothing_comes_back(self, new_shop: Any) -> None:  # noqa: F811
        shop = await new_shop(WORKER__SNAPSHOT_INTERVAL_S="1")
        worker = shop.start()
        await worker.until_ready()
        old = [
            event(user, f"i{at}", at, event_id=f"{user}{at}")
            for at in range(40)  # three pages
            for user in (USER, OTHER)
        ]
        await shop.produce_events(old)
        await shop.produce(topics.IMAGE_EMBEDDINGS, [photo(USER, NOW_MS), photo(OTHER, NOW_MS)])
        await shop.settled()

        async def photographed() -> bool:
            keys = await logged(shop, USER)
            assert not await shop.dead_letters(topics.IMAGE_EMBEDDINGS)
            return len(keys) == 5  # head, three pages, photos

        await until(photographed, f"the photo to be learned {await logged(shop, USER)}", 20)

        async def kept() -> bool:
            await shop.produce_events([event(OTHER, "i0", 50)])  # a snapshot follows a round
            return bool(on_disk(shop, USER))

        await until(kept, "a snapshot")
        known = await recsys(shop, "state", "--user", USER)
        assert known["events_applied"] == 40
        assert set(known["used_for"]) <= set(known)
        assert (await recsys(shop, "state", "--item", "i5"))["audience"] == 2

        told = await recsys(shop, "forget", "--user", USER)
        assert told["user_id"] == USER
        assert shop.topic(topics.BEHAVIOUR) in told["days_until_deleted"]

        async def gone() -> bool:
            return not await logged(shop, USER) and not on_disk(shop, USER)

        await until(gone, "the user to be forgotten")
        await shop.settled()
        assert (await recsys(shop, "state", "--item", "i5"))["audience"] == 1
        assert await shop.user(USER) == {}
        assert len(await shop.user(OTHER)) == 40

        # The same past once more, and something new.
        await shop.produce_events(
            [event(USER, f"i{at}", at, event_id=f"again{at}") for at in range(5)]
        )
        await shop.produce(topics.IMAGE_EMBEDDINGS, [photo(USER, NOW_MS)])
        lists = [each for each in await shop.lists() if each["user_id"] == USER]
        now_s = (told["timestamp"] - NOW_MS) // 1000 + 2
        await shop.produce_events([event(USER, "fresh", now_s)])
        await shop.settled()
        afresh = await shop.user(USER)
        assert list(afresh.values()) == [1]
        now = [each for each in await shop.lists() if each["user_id"] == USER]
        assert [each["event_time"] for each in now[len(lists) :]] == [NOW_MS + now_s * 1000]

        # After a restart from snapshot and log, and from the log alone.
        digests = await shop.digests()
        for wiped in (False, True):
            assert (await worker.stop())[0] == 0, worker.log[-3000:]
            if wiped:
                shutil.rmtree(shop.folder / "data")
            worker = shop.start()
            await worker.until_ready()
            await shop.produce_events([event(USER, "i1", 1)])
            await shop.settled()
            assert await shop.user(USER) == afresh
            assert await shop.digests() == digests

        # A replay of the old log elsewhere.
        shadow = await new_shop()
        source = shop.topic(topics.BEHAVIOUR)
        into = ("replay", "--topic", source, "--prefix", shadow.prefix)
        would = await recsys(shop, *into, "--dry-run")
        assert not await shadow.read(topics.FORGET)
        replayed = await recsys(shop, *into)
        assert replayed["sent"] == would["sent"]
        assert replayed["sent"] == len(await shop.read(topics.BEHAVIOUR)) - 40 - 5 - 2
        await shadow.start().until_ready()
        await shadow.settled()
        assert await shadow.user(USER) == afresh
        assert await shadow.user(OTHER) == await shop.user(OTHER)
        # Even of one that is sent there past the replay.
        await shadow.produce_events([event(USER, "i1", 1)])
        await shadow.settled()
        assert await shadow.user(USER) == afresh
        assert time.time() * 1000 > told["timestamp"]

    async def test_nothing_stays_with_a_worker_that_lost_the_lane(
        self,
        new_shop: Any,  # noqa: F811
    ) -> None:
        shop = await new_shop(WORKER__SNAPSHOT_INTERVAL_S="1")
        users = [f"{USER}-{number}" for number in range(20)]
        killed = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        await killed.wait()  # while it wrote a snapshot
        name = f"{shop.topic(topics.USER_STATE)}-0.snapshot"
        part = shop.folder / "one" / "snapshots" / f".{name}.{killed.pid}"
        part.parent.mkdir(parents=True)
        part.write_text(" ".join(users))
        first = shop.start(data="one")
        await first.until_ready()
        await shop.produce_events([event(user, "i1", at) for at, user in enumerate(users)])

        async def kept() -> bool:
            return len(on_disk(shop, USER, "one")) == PARTITIONS

        await until(kept, "a snapshot of each lane")
        assert not part.exists()
        second = shop.start(data="two")
        await second.until_ready()
        moved: list[str] = []

        async def shared() -> bool:
            lanes = await second.lanes()
            moved[:] = [user for user in users if partition_of(user.encode(), PARTITIONS) in lanes]
            return bool(moved) and sorted(lanes + await first.lanes()) == list(range(PARTITIONS))

        await until(shared, "both to have lanes")
        await recsys(shop, "forget", "--user", moved[0])

        async def gone() -> bool:
            files = on_disk(shop, moved[0], "one") + on_disk(shop, moved[0], "two")
            return not files and not await logged(shop, moved[0])

        await until(gone, "the user to be forgotten")
        for worker in (first, second):
            assert (await worker.stop())[0] == 0, worker.log[-3000:]
        assert await gone()
        for user in users:
            assert bool(await shop.user(user)) == (user != moved[0])
