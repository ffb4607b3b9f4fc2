"""Running contenders: one process each, with a time limit, and its figures as a dict."""

import atexit
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class ContenderError(Exception):
    """A contender failed; the message holds the end of what it printed."""


_started: "weakref.WeakSet[Contender]" = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A benchmark that fails leaves nobody behind."""
    for contender in list(_started):
        contender.kill()


class Contender:
    """A program under `benchmarks.contenders`, started at once."""

    def __init__(self, name: str, options: dict[str, Any], python: str = sys.executable) -> None:
        self.name = name
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
        environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `recsys worker` sets it, for all alike
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.contenders.{name}", json.dumps(options)],
            cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        _started.add(self)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def line(self) -> str:
        """The next line it prints; empty at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def write(self, text: str) -> None:
        """Send text to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def end(self, timeout_s: float = 60.0) -> None:
        """Close its standard input and wait for its end."""
        try:
            self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would; one that has ended is let be."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def finish(self, timeout_s: float = 600.0) -> dict[str, Any]:
        """Close its standard input, wait for its end, and return its figures."""
        try:
            out, error = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, error = self._process.communicate()
            raise ContenderError(
                f"{self.name}: no end after {timeout_s} s\n{error[-2000:]}"
            ) from None
        if self._process.returncode != 0:
            raise ContenderError(f"{self.name}: exit {self._process.returncode}\n{error[-3000:]}")
        lines = [line for line in out.splitlines() if line.startswith("{")]
        if not lines:
            raise ContenderError(f"{self.name}: no figures\n{out[-500:]}\n{error[-2000:]}")
        figures: dict[str, Any] = json.loads(lines[-1])
        return figures


def run(name: str, options: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """Start a contender, wait for its end, and return its figures."""
    return Contender(name, options, python).finish()
