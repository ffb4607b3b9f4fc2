"""Which brokers the end-to-end class can run over, and why not over the others."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from streams import kafka_runtime
from streams.broker import Broker, BrokerError, LocalKafka, open_broker
from streams.kafka_runtime import read_lock
from streams.loopback import brokers_known, free_ports

KAFKA_VERSION = next(jar.version for jar in read_lock() if jar.artifact == "kafka_2.13")
IMAGE = f"apache/kafka:{KAFKA_VERSION}"
DOCKER_READY_TIMEOUT_S = 60


@dataclass(frozen=True)
class Candidate:
    """One way to a broker; `missing` says why it cannot be had here, or is None."""

    name: str
    missing: Callable[[], str | None]


def _given(variable: str) -> Callable[[], str | None]:
    return lambda: None if os.environ.get(variable) else f"{variable} is not set"


def _no_local() -> str | None:
    try:
        kafka_runtime.find_java()
        import jgo  # noqa: F401
    except (BrokerError, ImportError) as error:
        return str(error)
    return None


def _no_docker() -> str | None:
    try:
        import testcontainers  # noqa: F401

        subprocess.run(["docker", "info"], check=True, capture_output=True, text=True, timeout=20)
    except ImportError:
        return "testcontainers is not installed"
    except FileNotFoundError:
        return "there is no docker command"
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        return f"no Docker engine answers ({said[-1] if said else error})"
    return None


CANDIDATES = (
    Candidate("local", _no_local),
    Candidate("KAFKA_HOME", _given("KAFKA_HOME")),
    Candidate("RECSYS_BROKER", _given("RECSYS_BROKER")),
    Candidate("docker", _no_docker),
)


@contextmanager
def open_candidate(name: str) -> Iterator[Broker]:
    """Start or find the broker of one candidate (all but `local`, which the session shares)."""
    if name == "docker":
        with _docker() as broker:
            yield broker
        return
    environ = {k: v for k, v in os.environ.items() if k not in ("RECSYS_BROKER", "KAFKA_HOME")}
    environ[name] = os.environ[name]
    with open_broker(environ) as broker:
        yield broker


@contextmanager
def open_local() -> Iterator[Broker]:
    """The pinned Apache Kafka, started for this session."""
    runtime = kafka_runtime.from_lock()
    with LocalKafka(runtime) as local:
        yield Broker(local.bootstrap, runtime.origin, local)


@contextmanager
def _docker() -> Iterator[Broker]:
    from testcontainers.core.container import DockerContainer

    port = free_ports(1)[0]  # an advertised listener must be known before the start
    properties = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "MESSAGE_MAX_BYTES": str(10 * 1024 * 1024),
    }
    container = DockerContainer(IMAGE).with_bind_ports(9092, port)
    for name, value in properties.items():
        container = container.with_env(f"KAFKA_{name}", value)
    with container:
        address = f"127.0.0.1:{port}"
        _wait(address)
        yield Broker(address, f"docker {IMAGE}")


def _wait(address: str) -> None:
    deadline = time.monotonic() + DOCKER_READY_TIMEOUT_S
    while not brokers_known(address):
        if time.monotonic() > deadline:
            raise BrokerError(f"{IMAGE} was not ready in {DOCKER_READY_TIMEOUT_S} s.")
        time.sleep(0.2)
