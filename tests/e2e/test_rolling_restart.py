"""A newer version takes over worker by worker, from what the older one wrote, under load."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from recsys import state_format
from recsys.soak import reference
from streams import topics
from streams.connection import Connection
from tests.e2e.harness import PARTITIONS, Shop
from tests.e2e.test_main_job import (  # noqa: F401
    assert_lists_are_unique,
    events_by_user,
    events_in_state,
    new_shop,
    random_events,
    until_newest_are_answered,
)

# Python runs a file of this name first: the same code, but its state is of the next version.
OLDER_VERSION, NEWER_VERSION = state_format.VERSION, state_format.VERSION + 1
NEWER = """
from recsys import state_format

state_format.VERSION += 1
state_format.UPGRADES["head", state_format.VERSION - 1] = lambda body: body
"""


def versions(records: list[Any]) -> set[int]:
    """Versions of the rows of users' state, as they lie in the log."""
    return {record.value[0] for record in records if record.value and b"\0\0" in record.key}


@pytest.mark.usefixtures("broker")
class TestRollingRestart:
    async def test_each_worker_is_replaced_by_a_newer_one(
        self,
        new_shop: Any,  # noqa: F811
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        shop: Shop = await new_shop(WORKER__SNAPSHOT_INTERVAL_S="1", WORKER__CHUNK_EVENTS_MAX="40")
        older = {name: shop.start((role,), data=name) for name, role in ROLES}
        await asyncio.gather(*(worker.until_ready() for worker in older.values()))
        events, sent, done = random_events(11, 2000), [], asyncio.Event()

        async def feed() -> None:
            for first in range(0, len(events), 10):
                sent.extend(await shop.produce_events(events[first : first + 10]))
                await asyncio.sleep(0 if done.is_set() else 0.2)

        feeding = asyncio.create_task(feed())
        (tmp_path / "newer").mkdir()
        (tmp_path / "newer" / "sitecustomize.py").write_text(NEWER)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "newer"))
        for name, role in ROLES:  # those that write what the others follow come last
            assert (await older[name].stop())[0] == 0, older[name].log[-3000:]
            await shop.start((role,), data=name).until_ready()
        done.set()
        await feeding
        await shop.settled()

        assert versions(await shop.read(topics.USER_STATE)) == {OLDER_VERSION, NEWER_VERSION}
        monkeypatch.setattr(state_format, "VERSION", NEWER_VERSION)
        assert await events_in_state(shop) == events_by_user(events)
        await until_newest_are_answered(shop, events, sent)
        assert_lists_are_unique(await shop.lists())
        connection = Connection(shop.bootstrap)
        assert not await reference.differences(connection, shop.prefix, PARTITIONS)
        await self._an_older_one_refuses(shop, monkeypatch)

    async def _an_older_one_refuses(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PYTHONPATH")
        stray = shop.start(("behaviour",), data="stray")
        assert await stray.exit_code() == 1
        assert f"state of version {NEWER_VERSION:02x}, this reads {OLDER_VERSION}" in stray.log


ROLES = (("one", "behaviour"), ("two", "behaviour"), ("items", "items"))
