"""A lane's local snapshot: restart time must not grow with history."""

import asyncio
import functools
import os
import time
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from streams import crash_points
from streams.application import Snapshots, State
from streams.chunk import Position
from streams.compute import Compute
from streams.state_log import Birth
from streams.topics import DAY_MS, TOMBSTONES_KEPT_MS

log = structlog.get_logger(__name__)

CLOCKS_S = DAY_MS // 1000  # a clock may have been wrong
AGE_S_MAX = TOMBSTONES_KEPT_MS // 1000


def path_of(folder: Path, state: Position) -> Path:
    """Where the snapshot of a lane lies, by its partition of the state topic."""
    return folder / f"{state.topic}-{state.partition}.snapshot"


def sweep(folder: Path, state_topic: str, kept: Container[int] | None) -> None:
    """Remove what nobody writes anew, for it may hold who was forgotten since.

    Those are snapshots of lanes that are not `kept` (None: all are), and parts that killed
    processes left of any lane's.
    """
    for path in folder.glob(f"{state_topic}-*.snapshot"):
        lane = path.name.removeprefix(f"{state_topic}-").removesuffix(".snapshot")
        if kept is not None and lane.isdecimal() and int(lane) not in kept:
            path.unlink(missing_ok=True)
    for part in folder.glob(f".{state_topic}-*.snapshot.*"):
        if _is_left(part.suffix[1:]):
            part.unlink(missing_ok=True)


def _is_left(writer: str) -> bool:
    """Whether the process that a part is named after has ended; before our first write, we too."""
    if not writer.isdecimal():
        return False
    if int(writer) == os.getpid():  # in a container each has the number of the one before
        return True
    try:
        os.kill(int(writer), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a snapshot stands: in which log, how far into it, and how far the inputs were read.

    `time_s` is when it was copied, in seconds since 1970.
    """

    birth: Birth
    state_end: int
    positions: dict[str, int]
    time_s: int

    @property
    def meta(self) -> dict[str, Any]:
        """As it lies beside the snapshot."""
        birth = [self.birth.offset, self.birth.name]
        return {
            "birth": birth, "state_end": self.state_end, "positions": self.positions,
            "time_s": self.time_s,
        }  # fmt: skip

    @classmethod
    def of(cls, meta: dict[str, Any]) -> "Mark":
        """Raises KeyError, TypeError or ValueError for what is none."""
        positions = dict(meta.get("positions", {}))
        birth = Birth(*meta["birth"])
        return cls(birth, int(meta["state_end"]), positions, int(meta["time_s"]))


class LocalSnapshot:
    """The one file of a lane.

    Args:
        every_s: how long after the last one began the next is due, if anything has changed.
        told: called after each end of a write.
    """

    def __init__(
        self, store: Snapshots, path: Path, every_s: float, compute: Compute,
        told: Callable[[], None],
    ) -> None:  # fmt: skip
        self._store, self._path, self._every_s = store, path, every_s
        self._compute, self._told = compute, told
        self._begun_at = time.monotonic()
        self._end = 0  # how far into the state's log the newest one reaches
        self._writing: asyncio.Task[None] | None = None

    async def restore(self, state: State, holds: Callable[[Mark], Awaitable[bool]]) -> Mark | None:
        """Load it into an empty state; None where it is not there, or is not to be believed.

        The state is to be made anew then. `holds` says whether it is of the log as it is now. One
        so old that the log may have lost removals since would bring back who was forgotten.
        """
        self._end = 0
        found = await self._compute.run(functools.partial(self._store.read, self._path))
        if found is None:
            return None
        snapshot, meta = found
        try:
            mark = Mark.of(meta)
            if not 0 <= time.time() - mark.time_s + CLOCKS_S < AGE_S_MAX:
                told = "it is too old, or of a wrong clock"
                log.warning("snapshot.refused", path=str(self._path), error=told)
                self.remove()
                return None
            if await holds(mark):
                await self._compute.run(lambda: state.restore(snapshot))
                self._end = mark.state_end
                return mark
            log.warning("snapshot.refused", path=str(self._path), error="it is of another log")
        except KafkaError:
            raise
        except Exception as error:  # whatever is wrong with it, the log has the truth
            log.warning("snapshot.refused", path=str(self._path), error=repr(error))
        return None

    def remove(self) -> None:
        """Nobody shall find it, for it may hold who was forgotten since."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("snapshot.stays", path=str(self._path), error=repr(error))

    def hurry(self) -> None:
        """What it holds must not stay: the next one is due at once."""
        self._begun_at = float("-inf")

    def due_s(self, state_end: int) -> float | None:
        """In how many seconds the next one is due; None where nothing has changed, or not now."""
        if state_end == self._end or (self._writing is not None and not self._writing.done()):
            return None
        return max(0.0, self._begun_at + self._every_s - time.monotonic())

    async def take(self, copy: Callable[[], dict[str, Any]], mark: Mark) -> None:
        """Copy the state between two rounds; the copy is written while further rounds run."""
        self._begun_at, self._end = time.monotonic(), mark.state_end
        snapshot = await self._compute.run(copy)
        self._writing = asyncio.create_task(self._write(snapshot, mark))

    async def written(self) -> None:
        """Wait for the end of the write under way."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self, snapshot: dict[str, Any], mark: Mark) -> None:
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(None, self._store.write, self._path, snapshot, mark.meta)
        crash_points.reach("snapshot")
        try:
            await writing
        except OSError as error:
            log.warning("snapshot.failed", path=str(self._path), error=repr(error))
            self._end = -1  # what lies there is older than it should be: try again
        finally:
            self._told()  # what changed meanwhile may be due again
