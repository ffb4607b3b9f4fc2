"""The end-to-end class runs over every broker that can be had: one parametrised fixture."""

from collections.abc import Iterator

import pytest

from streams.broker import Broker
from tests import brokers
from tests.conftest import MISSING, RAN_OVER


@pytest.fixture(scope="session", params=[candidate.name for candidate in brokers.CANDIDATES])
def opened_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Each broker in turn, open for all the tests that run over it."""
    candidate = next(c for c in brokers.CANDIDATES if c.name == request.param)
    if reason := candidate.missing():
        request.config.stash[MISSING][candidate.name] = reason
        pytest.skip(f"{candidate.name}: {reason}")
    if candidate.name == "local":
        yield request.getfixturevalue("local_broker")
        return
    with brokers.open_candidate(candidate.name) as broker:
        yield broker


@pytest.fixture
def broker(opened_broker: Broker, request: pytest.FixtureRequest) -> Broker:
    """The broker this test runs over; the summary counts it."""
    request.config.stash[RAN_OVER][opened_broker.origin] += 1
    return opened_broker


@pytest.fixture
def bootstrap(broker: Broker) -> str:
    """Its address."""
    return broker.bootstrap
