"""What a role is to the lanes that carry it: a state, and what it does with what they read."""

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from streams.chunk import Chunk, Position, Record


class State(Protocol):
    """What a lane needs of a state. Changes between `begin` and `commit` can be taken back."""

    def begin(self) -> None:
        """Start a round."""

    def commit(self) -> None:
        """Keep the round's changes."""

    def rollback(self) -> None:
        """Take the round's changes back, byte for byte."""

    def dirty_records(self) -> list[tuple[bytes, bytes | None]]:
        """The round's changed rows, as they go to the log."""

    def load_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take rows from the log, in its order; a value of `None` removes one."""

    def snapshot(self) -> dict[str, Any]:
        """A copy that later rounds do not touch."""

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Become that copy."""


S = TypeVar("S", bound=State)


class Snapshots(Protocol):
    """Where a lane keeps its local snapshots."""

    def write(self, path: Path, snapshot: dict[str, Any], meta: dict[str, Any]) -> None:
        """Write all or nothing."""

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The snapshot and its meta; `None` where there is none that can be believed."""


@dataclass
class Outcome:
    """What a round writes beside the state, by the partition it goes to."""

    writes: dict[Position, list[Record]] = field(default_factory=dict)
    forgets: bool = False  # a local snapshot of before must not stay
    may_wait: bool = False  # a later round's commit is soon enough, where nothing is written
    seconds: float | None = None  # of work, since it was promised; None: all of the time

    def add(self, target: Position, record: Record) -> None:
        """Append one record."""
        self.writes.setdefault(target, []).append(record)


class Application(Protocol[S]):
    """What a role does with what its lanes read."""

    def open(self, lane: int) -> S:
        """An empty state for the lane."""

    def opened(self, lane: int, state: S) -> None:
        """The state is restored and the lane starts."""

    def closed(self, lane: int) -> None:
        """The lane has gone to another owner, or ends."""

    def apply(self, lane: int, state: S, chunks: Sequence[Chunk]) -> Outcome | Awaitable[Outcome]:
        """One round: change the state, and say what is to be written, at once or a little later."""

    def due_s(self, lane: int, state: S) -> float | None:
        """In how many seconds a round is due though no chunk has come; `None` for never."""

    def committed(self, lane: int, state: S) -> None:
        """The round has taken effect."""
