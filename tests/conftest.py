"""Fixtures of every test that needs Kafka, and the summary that names the brokers it ran over."""

import asyncio
import contextlib
import gc
import os
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from streams.broker import Broker
from tests import brokers

RAN_OVER = pytest.StashKey[Counter[str]]()
MISSING = pytest.StashKey[dict[str, str]]()
OPENED: weakref.WeakSet[AIOKafkaConnection] = weakref.WeakSet()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RAN_OVER] = Counter()
    config.stash[MISSING] = {}
    connect = AIOKafkaConnection.connect

    async def noted(connection: AIOKafkaConnection) -> object:
        OPENED.add(connection)
        return await connect(connection)

    AIOKafkaConnection.connect = noted


@pytest.fixture(autouse=True)
def no_connection_is_left() -> Iterator[None]:
    """One left open warns wherever its memory is freed, in a later test: name its own."""
    yield
    left = [each for each in OPENED if each.connected() and each._loop.is_closed()]
    OPENED.difference_update(left)
    assert not left, f"left open: {left}"


@pytest.fixture(scope="session")
def local_broker() -> Iterator[Broker]:
    """The pinned Apache Kafka, one for the whole session."""
    with brokers.open_local() as broker:
        yield broker


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """A topic prefix that is this test's own; its topics are removed from the broker it used."""
    name = f"t{uuid.uuid4().hex[:10]}"
    yield name
    for fixture in ("broker", "local_broker"):
        if fixture in request.fixturenames:
            asyncio.run(_remove_topics(request.getfixturevalue(fixture).bootstrap, name))
            break


async def _remove_topics(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        mine = [topic for topic in await _topics(admin) if topic.startswith(prefix)]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()


async def _topics(admin: AIOKafkaAdminClient) -> list[str]:
    """The names of all; a broker that a test has paused may need a moment."""
    for _ in range(10):
        with contextlib.suppress(NodeNotReadyError, KafkaConnectionError):
            return list(await admin.list_topics())
        await asyncio.sleep(1.0)
    return list(await admin.list_topics())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which brokers the end-to-end tests ran over, and why not over the others."""
    ran, missing = config.stash[RAN_OVER], config.stash[MISSING]
    if not ran and not missing:
        return
    terminalreporter.section("brokers")
    for origin, count in ran.items():
        terminalreporter.write_line(f"ran over {origin}: {count} tests")
    for name, reason in missing.items():
        terminalreporter.write_line(f"skipped {name}: {reason}", yellow=True)
    if not ran:
        terminalreporter.write_line("ran over NO broker", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI the local broker is a must: without it the end-to-end tests would vanish silently."""
    # CPython 3.11 fails in ast.parse when a collection runs finalisers of its own in the middle
    # (gh-106905), and the summary imports and rewrites modules: leave it nothing to collect.
    gc.collect()
    gc.freeze()
    if os.environ.get("CI") and "local" in session.config.stash[MISSING]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
