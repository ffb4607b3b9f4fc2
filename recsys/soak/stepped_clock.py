"""A worker whose wall clock can be stepped while it runs, in the place of `python -m recsys`.

How wrong it is lies in a file that both processes map. What changes is the time that Python code is
told (`time.time`, `time.time_ns`); aiokafka's compiled writer of batches asks the kernel, so its
Python twin must be chosen. Monotonic clocks stay as they are, as where a real clock is set.
"""

import mmap
import os
import struct
import time
from pathlib import Path

VARIABLE = "SOAK_CLOCK"  # the file's path, in the worker's environment
ENVIRON = {"AIOKAFKA_NO_EXTENSIONS": "1"}
_SECONDS = struct.Struct("<q")


def step(path: Path, seconds: int) -> None:
    """From now on the clock is so many seconds ahead; written in place, for it is mapped."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, _SECONDS.pack(seconds), 0)
    finally:
        os.close(file)


def install(path: Path) -> None:
    """Let the wall clock of this process follow the file; before anything keeps `time.time`."""
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)
    true_s, true_ns = time.time, time.time_ns

    def ahead_s() -> int:
        return int(_SECONDS.unpack(shared)[0])

    time.time = lambda: true_s() + ahead_s()
    time.time_ns = lambda: true_ns() + ahead_s() * 1_000_000_000


if __name__ == "__main__":
    install(Path(os.environ[VARIABLE]))
    from recsys.cli import main

    main()
