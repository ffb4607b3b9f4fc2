"""One node of a local Apache Kafka: a Java process with a folder of its own."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streams.kafka_runtime import Runtime

STOP_TIMEOUT_S = 15.0
LOG_TAIL_LINES = 25
SCRAM = "SCRAM-SHA-512"
# SIGKILL when our end of the pipe closes, however that came about. Works on Linux and macOS,
# where PR_SET_PDEATHSIG would be Linux alone and fire when the starting *thread* ends.
WATCHDOG = 'read -r _; kill -9 "$1" 2>/dev/null; [ -z "$2" ] || rm -rf "$2"'

LOGGING = """\
Configuration:
  status: error
  Appenders:
    Console: {name: STDERR, target: SYSTEM_ERR, PatternLayout: {pattern: "%d %p %m (%c)%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: STDERR}}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: INFO}
"""


@dataclass
class Node:
    """One Kafka process: its ports, its folder with `server.properties` and data, and its log.

    `ports` go by listener name. It ends with this process, by a watchdog, unless it is launched
    with a descriptor that it keeps open.
    """

    node_id: int
    folder: Path
    ports: dict[str, int]
    runtime: Runtime
    heap_mb: int = 512
    process: "subprocess.Popen[bytes] | None" = None
    watchdog: "subprocess.Popen[bytes] | None" = None
    log_path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log_path = self.folder / "server.log"

    @property
    def properties_path(self) -> Path:
        return self.folder / "server.properties"

    @property
    def pid(self) -> int | None:
        """Process id while it runs (a paused one runs)."""
        alive = self.process is not None and self.process.poll() is None
        return self.process.pid if self.process is not None and alive else None

    def log_tail(self) -> str:
        """The last lines of its log, without the frames of stack traces."""
        if not self.log_path.exists():
            return "(no log)"
        lines = self.log_path.read_text("utf-8", "replace").splitlines()
        told = [line for line in lines if not line.startswith(("\tat ", "WARNING: "))]
        return "\n".join(told[-LOG_TAIL_LINES:])

    def write_files(self, properties: Mapping[str, str]) -> None:
        """Write `server.properties` and the configuration of its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}" for name, value in properties.items()]
        self.properties_path.write_text("\n".join(lines) + "\n", "utf-8")
        (self.folder / "log4j2.yaml").write_text(LOGGING, "utf-8")

    def format(
        self, cluster_id: str, scram_users: Mapping[str, str]
    ) -> "subprocess.Popen[bytes] | None":
        """Start to format the storage; None where data of an earlier start lie there."""
        if (self.folder / "data" / "meta.properties").exists():
            return None
        command = self._java("kafka.tools.StorageTool")
        command += ["format", "--cluster-id", cluster_id, "--config", str(self.properties_path)]
        for name, password in scram_users.items():
            command += ["--add-scram", f"{SCRAM}=[name={name},password={password}]"]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: it is not a format that failed
            )

    def launch(self, temporary: Path | None = None, keep_open: int | None = None) -> None:
        """Start the server. The watchdog removes `temporary` when it has to end the server."""
        command = [*self._java("kafka.Kafka"), str(self.properties_path)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: the broker outlives our clean stop
                pass_fds=() if keep_open is None else (keep_open,),
            )
        if keep_open is None:
            folder = str(temporary or "")
            self.watchdog = subprocess.Popen(
                ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self.process.pid), folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def send(self, *signals: signal.Signals) -> None:
        """Send signals to the process, if it runs."""
        if self.process is not None:
            for each in signals:
                self.process.send_signal(each)

    def reap(self) -> None:
        """Wait for a process that was told to end, insist, and call off the watchdog."""
        if self.process is not None:
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        if self.watchdog is not None:
            self.watchdog.kill()
            self.watchdog.wait()
            if self.watchdog.stdin is not None:
                self.watchdog.stdin.close()
            self.watchdog = None

    def _java(self, main: str, *options: str) -> list[str]:
        heap = os.environ.get("KAFKA_HEAP_OPTS", f"-Xms128m -Xmx{self.heap_mb}m")
        return [
            str(self.runtime.java),
            *shlex.split(heap),
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # the second compiler took a third of a core for minutes
            *options,
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}",
            *shlex.split(os.environ.get("KAFKA_OPTS", "")),
            "-cp",
            self.runtime.class_path,
            main,
        ]
