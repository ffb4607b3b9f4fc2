"""A real Apache Kafka on this machine, as a context: one KRaft node or three, on loopback.

It leaves nothing behind: its processes end with the block, and where this process is killed a
watchdog ends them. `pause`, `kill` and `restart` are there for tests of faults.
"""

import base64
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from streams import kafka_runtime
from streams.kafka_node import SCRAM, Node
from streams.kafka_runtime import BrokerError, Runtime
from streams.loopback import HOST, brokers_known, free_ports, is_free

__all__ = ["HOST", "BrokerError", "LocalKafka", "brokers_known", "free_ports"]

READY_TIMEOUT_S = 90.0
PORT_TRIES = 3


class LocalKafka:
    """Apache Kafka on loopback, started by `with` (or `start`) and stopped at the block's end.

    Args:
        runtime: Java and jars; by default those of the lock (`kafka_runtime.from_lock`).
        nodes: 1, or 3 for a cluster with replication 3 and `min.insync.replicas` 2.
        folder: keeps data and logs; by default a temporary folder that goes away.
        properties: further server properties; they win over ours.
        listeners: further listeners, name to protocol, e.g. `{"SECURE": "SASL_SSL"}`; each gets a
            port a node, and `addresses("SECURE")` tells them.
        scram_users: name to password, made for SCRAM-SHA-512 when the storage is formatted; the
            listeners whose protocol is `SASL_...` let them in.
        port: first choice for the client port of a single node.
        keep_open: a descriptor that every node keeps open; where it is given, the nodes outlive
            this process (`detached_kafka`).
        heap_mb: Java heap of a node.
    """

    def __init__(
        self,
        runtime: Runtime | None = None,
        *,
        nodes: int = 1,
        folder: Path | None = None,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        scram_users: Mapping[str, str] | None = None,
        port: int | None = None,
        keep_open: int | None = None,
        heap_mb: int = 512,
        show_progress: bool = True,
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.nodes: list[Node] = []
        self._node_count = nodes
        self._properties = dict(properties or {})
        self._listeners = dict(listeners or {})
        self._scram_users = dict(scram_users or {})
        self._port = port
        self._keep_open = keep_open
        self._heap_mb = heap_mb
        self._show_progress = show_progress
        self._temporary: Path | None = None

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """Addresses of the plain listener, `host:port` joined by commas."""
        return self.addresses("PLAINTEXT")

    def addresses(self, listener: str) -> str:
        """Addresses of one listener, `host:port` joined by commas."""
        return ",".join(f"{HOST}:{node.ports[listener]}" for node in self.nodes)

    # ---- start and stop --------------------------------------------------------------------------

    def start(self) -> Self:
        """Format, start, and wait until every node answers a metadata request.

        Raises:
            BrokerError: it did not start; the message ends with the tail of its log.
        """
        if self.runtime is None:
            self.runtime = kafka_runtime.from_lock(show_progress=self._show_progress)
        for attempt in range(1, PORT_TRIES + 1):
            self._lay_out(self.runtime)
            try:
                self._format()
                for node in self.nodes:
                    node.launch(self._temporary, self._keep_open)
                self.wait_ready()
            except BaseException as error:
                taken = any("already in use" in node.log_tail() for node in self.nodes)
                self.stop()
                if taken and attempt < PORT_TRIES and isinstance(error, BrokerError):
                    continue
                raise
            break
        return self

    def stop(self) -> None:
        """End every node (SIGTERM, then SIGKILL) and remove a temporary folder."""
        for node in self.nodes:
            node.send(signal.SIGCONT, signal.SIGTERM)
        # All are told before any is waited for: a controller quorum ends together or not at all.
        for node in self.nodes:
            node.reap()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ---- faults ----------------------------------------------------------------------------------

    def pause(self, node_id: int | None = None) -> None:
        """Freeze one node, or all (SIGSTOP): connections stay open and nothing answers."""
        for node in self._chosen(node_id):
            node.send(signal.SIGSTOP)

    def resume(self, node_id: int | None = None) -> None:
        """Let a paused node, or all, go on."""
        for node in self._chosen(node_id):
            node.send(signal.SIGCONT)

    def kill(self, node_id: int | None = None) -> None:
        """End one node, or all, as a power cut would (SIGKILL). The data stay."""
        for node in self._chosen(node_id):
            node.send(signal.SIGKILL)
            node.reap()

    def restart(self, node_id: int | None = None) -> None:
        """Start what was killed again, on the same ports and data; wait until it is ready."""
        for node in self._chosen(node_id):
            if node.pid is None:
                node.launch(self._temporary, self._keep_open)
        self.wait_ready()

    def _chosen(self, node_id: int | None) -> list[Node]:
        return [node for node in self.nodes if node_id in (None, node.node_id)]

    # ---- how -------------------------------------------------------------------------------------

    def _lay_out(self, runtime: Runtime) -> None:
        if self.folder is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="recsys-kafka-"))
        base = self.folder or self._temporary
        assert base is not None
        names = ["PLAINTEXT", "CONTROLLER", *self._listeners]
        ports = free_ports(len(names) * self._node_count)
        if self._port is not None and self._node_count == 1 and is_free(self._port):
            ports[0] = self._port
        self.nodes = []
        for index in range(self._node_count):
            mine = ports[index * len(names) : (index + 1) * len(names)]
            folder = base / f"node-{index + 1}"
            listening = dict(zip(names, mine, strict=True))
            self.nodes.append(Node(index + 1, folder, listening, runtime, self._heap_mb))
        for node in self.nodes:
            node.write_files(self._server_properties(node))

    def _server_properties(self, node: Node) -> dict[str, str]:
        clustered = self._node_count > 1
        replication = "3" if clustered else "1"
        min_isr = "2" if clustered else "1"
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._listeners}
        bound = [f"{name}://{HOST}:{port}" for name, port in node.ports.items()]
        voters = [f"{peer.node_id}@{HOST}:{peer.ports['CONTROLLER']}" for peer in self.nodes]
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.node_id),
            "listeners": ",".join(bound),
            "advertised.listeners": ",".join(b for b in bound if not b.startswith("CONTROLLER")),
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": ",".join(voters),
            "log.dirs": str(node.folder / "data"),
            "default.replication.factor": replication,
            "min.insync.replicas": min_isr,
            "offsets.topic.replication.factor": replication,
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": replication,
            "transaction.state.log.min.isr": min_isr,
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": replication,
            "share.coordinator.state.topic.min.isr": min_isr,
            "share.coordinator.state.topic.num.partitions": "1",
            # A killed broker may register again only after its old session (9 s by default).
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "auto.create.topics.enable": "false",
            "num.partitions": "4",
            "message.max.bytes": str(10 * 1024 * 1024),
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            "num.network.threads": "2",
            "num.io.threads": "4",
            **self._scram_properties(),
            **self._properties,
        }

    def _scram_properties(self) -> dict[str, str]:
        if not self._scram_users:
            return {}
        module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        guarded = [name for name, kind in self._listeners.items() if kind.startswith("SASL_")]
        return {
            "sasl.enabled.mechanisms": SCRAM,
            **{
                f"listener.name.{name.lower()}.{SCRAM.lower()}.sasl.jaas.config": module
                for name in guarded
            },
        }

    def _format(self) -> None:
        # Any 22-character base64 UUID will do; Kafka's own random-uuid takes a JVM of 1.3 s.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster_id.startswith("-"):
            cluster_id = "A" + cluster_id[1:]  # or it reads as an option
        jobs = [node.format(cluster_id, self._scram_users) for node in self.nodes]
        exit_codes = [job.wait() for job in jobs if job is not None]
        if any(exit_codes):
            raise BrokerError(f"Apache Kafka could not format its storage.\n{self._log_tails()}")

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until each running node answers a metadata request that names all running nodes.

        Raises:
            BrokerError: a process ended, or the time is up.
        """
        deadline = time.monotonic() + timeout_s
        waiting = [node for node in self.nodes if node.process is not None]
        for node in waiting:
            address = f"{HOST}:{node.ports['PLAINTEXT']}"
            while brokers_known(address) < len(waiting):
                if node.pid is None:
                    raise BrokerError(f"Apache Kafka did not start.\n{self._log_tails()}")
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"Apache Kafka was not ready in {timeout_s:.0f} s.\n{self._log_tails()}"
                    )
                time.sleep(0.1)

    def _log_tails(self) -> str:
        tails = [f"--- {node.log_path}\n{node.log_tail()}" for node in self.nodes]
        return "\n".join(tails)
