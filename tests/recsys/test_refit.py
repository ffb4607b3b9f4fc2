"""The refit's process: it does not outlive the worker that asked for it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from recsys import refit
from recsys.refit import Refits
from recsys.settings import Settings

WORKER = """
import asyncio, sys
from recsys.refit import Refits
from recsys.settings import Settings

async def main():
    refits = Refits(Settings(broker=sys.argv[1]))
    refits.consider(10**9)
    await asyncio.Future()

asyncio.run(main())
"""


def test_it_ends_with_a_worker_that_was_killed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # a broker that never answers
        server.settimeout(60)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen([sys.executable, "-c", WORKER, address]) as worker:
            asking, _ = server.accept()
            worker.kill()
        with asking:
            asking.settimeout(20)
            while asking.recv(4096):  # its end closes the connection
                pass


class Child:
    """In the place of a refit's process: one that ends as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = 0
        self.does = ""
        real = asyncio.create_subprocess_exec

        async def start(*_: str, **pipes: Any) -> Any:
            self.started += 1
            return await real(sys.executable, "-c", self.does, **pipes)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)


async def ended(refits: Refits) -> None:
    assert refits._task is not None
    await asyncio.wait_for(refits._task, 60)


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "killed by signal 9"),
        ("raise SystemExit('no room')", "no room"),
        ("raise SystemExit(3)", "ended with code 3"),
    ],
)
async def test_one_that_failed_is_tried_again_though_nothing_is_new(
    monkeypatch: pytest.MonkeyPatch, does: str, why: str
) -> None:
    child, now = Child(monkeypatch), [1000.0]
    child.does = does
    monkeypatch.setattr(refit.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(asyncio.get_running_loop(), "time", time.perf_counter)
    refits = Refits(Settings())
    waits = []
    for attempt in range(1, 10):
        with capture_logs() as logs:
            refits.consider(5000)
            await ended(refits)
        assert child.started == attempt
        (told,) = logs
        assert (told["event"], told["why"]) == ("refit.failed", why)
        waits.append(told["again_in_s"])
        now[0] += waits[-1] - 1
        refits.consider(5000)
        assert child.started == attempt
        now[0] += 1
    assert waits[:3] == [60.0, 120.0, 240.0]
    assert waits[-1] == 3600.0
    child.does = ""
    refits.consider(5000)
    await ended(refits)
    now[0] += 3600
    refits.consider(5100)  # done, and too few are new
    await ended(refits)
    assert child.started == 10


async def test_one_that_cannot_be_started_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def full(*_: str, **__: Any) -> Any:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", full)
    refits = Refits(Settings())
    with capture_logs() as logs:
        refits.consider(5000)
        await ended(refits)
    assert "could not be started" in logs[0]["why"]
    await refits.stop()


@pytest.mark.parametrize("after_s", [0.0, 0.001, 1.0])
async def test_it_ends_at_once_whenever_it_is_told(
    monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    children: list[Any] = []
    real = asyncio.create_subprocess_exec

    async def slow(*_: str, **pipes: Any) -> Any:
        await asyncio.sleep(0.1)  # a machine that is busy
        children.append(await real(sys.executable, "-c", "import time; time.sleep(60)", **pipes))
        return children[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    refits = Refits(Settings())
    refits.consider(5000)
    await asyncio.sleep(after_s)
    begun = time.monotonic()
    await refits.stop()
    assert time.monotonic() - begun < 5
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)
