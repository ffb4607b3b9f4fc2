"""Workers as processes of their own, and the supervisor that starts those that end again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.soak import stepped_clock
from streams.crash_points import VARIABLE as CRASH_AT
from streams.local_kafka import free_ports

POLL_S = 0.1
RESTART_S = 0.2
ROLES = ("behaviour", "items")


class SoakError(Exception):
    """The soak itself cannot go on, or what it waits for does not come."""


@dataclass
class WorkerProcess:
    """One `recsys worker`: its settings, its log, and its life after life."""

    name: str
    settings: dict[str, str]
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    port: int = 0
    starts: int = 0
    exits: list[int] = field(default_factory=list)  # codes of ends that nobody asked for
    wanted: bool = False
    roles: Sequence[str] = ROLES
    clock_steps: bool = False  # its wall clock can be set wrong

    @property
    def log_path(self) -> Path:
        """Everything it said, in all its lives."""
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """It lives (a stopped one lives)."""
        return self.process is not None and self.process.poll() is None

    def start(self, crash_at: str | None = None) -> None:
        """Begin a life, which may end at a named place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_ports(1)[0]
        given = {
            **self.settings,
            "DATA_DIR": str(self.folder / self.name),
            "WORKER__WEB_PORT": str(self.port),
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
        environ |= {f"RECSYS_{name}": value for name, value in given.items()}
        environ.pop(CRASH_AT, None)
        if crash_at is not None:
            environ[CRASH_AT] = crash_at
        module = "recsys"
        if self.clock_steps:
            module = stepped_clock.__name__
            self.set_clock(0)
            environ |= {stepped_clock.VARIABLE: str(self._clock), **stepped_clock.ENVIRON}
        roles = [text for role in self.roles for text in ("--role", role)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "worker", *roles],
                env=environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.starts += 1
        self.wanted = True

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.wanted = False
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    @property
    def _clock(self) -> Path:
        return self.folder / f"{self.name}.clock"

    def set_clock(self, seconds: int) -> None:
        """Set the wall clock of one whose `clock_steps` so many seconds ahead of the true time."""
        stepped_clock.step(self._clock, seconds)

    async def stop(self, timeout_s: float = 60.0) -> tuple[int, float]:
        """SIGTERM; its exit code, and how many seconds it took. Raises SoakError."""
        self.wanted = False
        if self.process is None:
            raise SoakError(f"{self.name} was never started")
        begun = time.monotonic()
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        await self.until_ended(timeout_s)
        return int(self.process.returncode), time.monotonic() - begun

    async def until_ended(self, timeout_s: float) -> None:
        """Wait for its end. Raises SoakError."""
        deadline = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() > deadline:
                raise SoakError(f"{self.name} did not end within {timeout_s:.0f} s\n{self.tail()}")
            await asyncio.sleep(POLL_S)

    async def until_stopped(self, timeout_s: float = 120.0) -> None:
        """Wait until a SIGSTOP holds it. Raises SoakError."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        how = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, self.process.pid, how) is None:  # noqa: ASYNC222
            if time.monotonic() > deadline:
                raise SoakError(f"{self.name} did not stop in {timeout_s:.0f} s\n{self.tail()}")
            await asyncio.sleep(POLL_S)

    async def until_ready(self, timeout_s: float = 240.0) -> None:
        """Wait until it is assigned and restored. Raises SoakError."""
        deadline = time.monotonic() + timeout_s
        while (await asyncio.to_thread(self.health))[0] != 200:
            if time.monotonic() > deadline:
                raise SoakError(f"{self.name} was not ready in {timeout_s:.0f} s\n{self.tail()}")
            await asyncio.sleep(POLL_S)

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of its page /health/ready; 0 where it does not answer."""
        try:
            url = f"http://127.0.0.1:{self.port}/health/ready"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except (OSError, ValueError):
            return 0, {}

    def lanes(self, group: str) -> set[str]:
        """The lanes of a group that are here, by their numbers."""
        return set(self.health()[1].get("lanes", {}).get(group, ()))

    def memory_mb(self) -> float:
        """Resident memory, where /proc tells it; else 0."""
        if self.process is None:
            return 0.0
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log(self) -> str:
        """All that it said."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def tail(self, lines: int = 15) -> str:
        """The last that it said."""
        return "\n".join(self.log().splitlines()[-lines:])


class Supervisor:
    """Starts workers again that ended without being told to, as a service manager would."""

    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        self.workers: list[WorkerProcess] = []
        self.settings = settings
        self.folder = folder
        self._task: asyncio.Task[None] | None = None

    def add(
        self, name: str | None = None, roles: Sequence[str] = ROLES, **settings: str
    ) -> WorkerProcess:
        """One more worker, not started yet."""
        name = name or f"worker-{len(self.workers)}"
        worker = WorkerProcess(name, {**self.settings, **settings}, self.folder, roles=roles)
        self.workers.append(worker)
        return worker

    async def __aenter__(self) -> "Supervisor":
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        for worker in self.workers:
            if worker.running:
                worker.kill()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RESTART_S)
            for worker in self.workers:
                if worker.wanted and not worker.running and worker.process is not None:
                    worker.exits.append(worker.process.returncode)
                    worker.start()

    async def stop_all(self) -> None:
        """End all of them in good order. Raises SoakError."""
        running: Sequence[WorkerProcess] = [each for each in self.workers if each.running]
        await asyncio.gather(*(worker.stop() for worker in running))
