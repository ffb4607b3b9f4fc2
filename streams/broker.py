"""Which Kafka this runs on: always a real one, found in one order everywhere.

1. `RECSYS_BROKER`: any Kafka. 2. `KAFKA_HOME`: an unpacked Apache Kafka, started as one node.
3. The local one: pinned jars from the user's cache, Java from a wheel or the path. The demo, the
tests and production differ in nothing else.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streams import kafka_runtime
from streams.kafka_runtime import BrokerError, Runtime
from streams.local_kafka import LocalKafka
from streams.loopback import brokers_known

__all__ = ["Broker", "BrokerError", "LocalKafka", "Runtime", "find_runtime", "open_broker"]


@dataclass(frozen=True)
class Broker:
    """A Kafka to connect to, and where it came from."""

    bootstrap: str
    origin: str
    local: LocalKafka | None = None


@contextmanager
def open_broker(
    environ: Mapping[str, str] = os.environ, show_progress: bool = True
) -> Iterator[Broker]:
    """The first Kafka that can be had; one that was started here ends with the block.

    Raises:
        BrokerError: none could be had, or the one that was asked for does not answer.
    """
    if address := environ.get("RECSYS_BROKER"):
        if not brokers_known(address):
            raise BrokerError(f"No Kafka answers at RECSYS_BROKER={address}.")
        yield Broker(address, f"RECSYS_BROKER={address}")
        return
    runtime = find_runtime(environ, show_progress)
    with LocalKafka(runtime) as local:
        yield Broker(local.bootstrap, runtime.origin, local)


def find_runtime(environ: Mapping[str, str] = os.environ, show_progress: bool = True) -> Runtime:
    """The Apache Kafka to start: that of `KAFKA_HOME`, else the pinned one.

    Raises:
        BrokerError: neither can be had.
    """
    if home := environ.get("KAFKA_HOME"):
        return kafka_runtime.from_home(Path(home), environ)
    return kafka_runtime.from_lock(environ=environ, show_progress=show_progress)
