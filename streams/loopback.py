"""The loopback address: free ports on it, and whether a Kafka answers there."""

import asyncio
import random
import socket
import threading
from contextlib import suppress

# Below the ephemeral range: a client that redials a dead port of that range may connect to itself,
# and then the port is taken when the broker comes back.
PORT_MIN, PORT_MAX = 12_000, 30_000
HOST = "127.0.0.1"
REQUESTS = 3  # that a client waits for at most: to connect, for versions, for metadata


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that are free now, below the ephemeral range."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randint(PORT_MIN, PORT_MAX)
        if port not in ports and is_free(port):
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    """Whether nothing listens on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def brokers_known(address: str, timeout_s: float = 5.0) -> int:
    """How many brokers the metadata of the Kafka at `address` names; 0 where none answers.

    Safe to call where an event loop runs: it has a thread and a loop of its own.
    """
    found = 0

    def ask() -> None:
        nonlocal found
        found = asyncio.run(_brokers_known(address, timeout_s))

    # A plain connection first: a client that is refused logs an error, and here that is no error.
    first = address.split(",", maxsplit=1)[0]
    host, _, port = first.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout_s):
        thread = threading.Thread(target=ask, name="kafka-ready")
        thread.start()
        thread.join()
    return found


async def _brokers_known(address: str, timeout_s: float) -> int:
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError

    # No deadline around it all: a client that is cancelled there leaves its first connection open.
    client = AIOKafkaClient(
        bootstrap_servers=address,
        request_timeout_ms=int(timeout_s * 1000 / REQUESTS),
        client_id="ready",
    )
    try:
        await client.bootstrap()
        return len(client.cluster.brokers())
    except (KafkaError, OSError, TimeoutError):
        return 0
    finally:
        await client.close()
