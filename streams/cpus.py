"""On which CPUs a process runs: two that share few wake each other across them all the time."""

import os
from collections.abc import Iterable


class CpusError(ValueError):
    """A process can not be put where it should run; the message says why."""


def usable() -> int:
    """On how many this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_on(cpus: Iterable[int]) -> None:
    """Keep this process, all its threads and those to come on these; everything is left if none.

    Raises:
        CpusError: it may not run on all of them, or the system knows no such thing.
    """
    if not (wanted := set(cpus)):
        return
    if not hasattr(os, "sched_setaffinity"):
        raise CpusError("this system does not keep processes on CPUs")
    before = os.sched_getaffinity(0)
    move(os.getpid(), wanted)
    if missing := wanted - os.sched_getaffinity(0):
        move(os.getpid(), before)
        raise CpusError(f"this process can not run on CPU {min(missing)}")


def leave(cpus: Iterable[int]) -> None:
    """Have this process run anywhere else, if there is anything else."""
    left = set(cpus)
    if left and hasattr(os, "sched_setaffinity"):
        move(os.getpid(), set(range(os.cpu_count() or 1)) - left)


def move(pid: int, cpus: Iterable[int]) -> None:
    """Put all threads of a process on these; it stays where it is if none of them is there."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            os.sched_setaffinity(int(thread), cpus)
        except OSError:  # the thread has ended, or none of them is there
            continue
