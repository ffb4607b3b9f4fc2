"""A local Apache Kafka that outlives the command that started it: start, show, stop.

Its folder holds the data, the log, and a lock file that the broker itself keeps open: as long as
the lock is held it runs, whatever a stale process id may say. Data stay from one start to the next.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from streams.kafka_node import STOP_TIMEOUT_S
from streams.kafka_runtime import BrokerError, Runtime
from streams.local_kafka import READY_TIMEOUT_S, LocalKafka

PORT = 9092


@dataclass(frozen=True)
class DetachedKafka:
    """The one that runs: where to connect, its process, its files, since when."""

    bootstrap: str
    pid: int
    folder: str
    log_path: str
    origin: str
    started_ms: int


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where it lives: `$XDG_STATE_HOME/recsys/kafka` or `~/.local/state/recsys/kafka`."""
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "recsys" / "kafka"


def start(runtime: Runtime, folder: Path | None = None, port: int = PORT) -> DetachedKafka:
    """Start it, or tell of the one that runs already. `port` is a wish: if taken, another is found.

    Raises:
        BrokerError: it did not start.
    """
    folder = folder or state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        with _lock(folder) as descriptor:
            if descriptor is not None:
                return _start(runtime, folder, port, descriptor)
        if running := show(folder):
            return running
        if time.monotonic() > deadline:
            raise BrokerError(f"Another command has been starting the Kafka of {folder} for long.")
        time.sleep(0.1)


def _start(runtime: Runtime, folder: Path, port: int, descriptor: int) -> DetachedKafka:
    (folder / "state.json").unlink(missing_ok=True)
    kafka = LocalKafka(runtime, folder=folder, port=port, keep_open=descriptor).start()
    node = kafka.nodes[0]
    assert node.process is not None
    running = DetachedKafka(
        bootstrap=kafka.bootstrap,
        pid=node.process.pid,
        folder=str(folder),
        log_path=str(node.log_path),
        origin=runtime.origin,
        started_ms=time.time_ns() // 1_000_000,
    )
    draft = folder / "state.json.new"
    draft.write_text(json.dumps(asdict(running)), "utf-8")
    draft.replace(folder / "state.json")
    node.process.returncode = 0  # not ours any more: or Python warns that it still runs
    return running


def show(folder: Path | None = None) -> DetachedKafka | None:
    """The one that runs, or None."""
    folder = folder or state_folder()
    if not folder.is_dir():
        return None
    with _lock(folder) as descriptor:
        if descriptor is not None:
            return None
    try:
        return DetachedKafka(**json.loads((folder / "state.json").read_text("utf-8")))
    except FileNotFoundError:  # being started, or stopped, just now
        return None


def stop(folder: Path | None = None, remove_data: bool = False) -> bool:
    """End the one that runs (SIGTERM, then SIGKILL); whether there was one."""
    folder = folder or state_folder()
    running = show(folder)
    if running is not None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        with suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGTERM)
        while show(folder) is not None:
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(running.pid, signal.SIGKILL)
            time.sleep(0.1)
        (folder / "state.json").unlink(missing_ok=True)
    if remove_data and folder.is_dir():
        shutil.rmtree(folder)
    return running is not None


@contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    """The lock's descriptor, or None where the broker (or a command that starts it) holds it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)
