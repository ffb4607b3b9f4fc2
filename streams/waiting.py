"""What a lane was given and has not applied yet, and which of it a round takes."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from streams.chunk import Chunk, Position


class Waiting:
    """Chunks in the order they came: put by one thread, and taken by the one that applies them.

    Args:
        urgent: topics whose records somebody waits for: they do not queue behind a backlog of the
            others, but get up to half of the next round, in which all keep the order they came in.
    """

    def __init__(self, urgent: frozenset[str] = frozenset()) -> None:
        self._urgent = urgent
        self._chunks: list[Chunk] = []
        self._lock = threading.Lock()
        self._left_out: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def records(self) -> int:
        """Records in all chunks."""
        return sum(len(chunk.records) for chunk in self._chunks)

    def put(self, chunk: Chunk) -> None:
        """Add one; the transport's window bounds how many wait."""
        with self._lock:
            self._chunks.append(chunk)

    def put_back(self, chunks: Sequence[Chunk]) -> None:
        """They were taken, and nothing came of it; their place in the window was freed already."""
        with self._lock:
            self._chunks[:0] = [replace(chunk, release=_freed) for chunk in chunks]

    def forget(self) -> None:
        """All of it will be read again, or by somebody else."""
        for chunk in self._all():
            chunk.release()

    def _all(self) -> list[Chunk]:
        with self._lock:
            chunks, self._chunks = self._chunks, []
        return chunks

    def take(self, room: int, positions: Mapping[Position, int]) -> list[Chunk]:
        """Up to `room` records from these positions on: what waits now is in one round.

        What is left lies behind what is taken, too. `let_go` says what was neither.
        """
        waiting = self._all()
        reach = {chunk.source: chunk.end + chunk.behind for chunk in waiting}
        left = dict(enumerate(waiting))
        taken: dict[int, list[Chunk]] = {}
        ends = dict(positions)
        urgent = [at for at, chunk in left.items() if chunk.source.topic in self._urgent]
        spare = self._fill(urgent, left, taken, ends, room // 2)
        self._fill(sorted(left), left, taken, ends, room - room // 2 + spare)
        with self._lock:  # what came meanwhile lies behind
            self._chunks[:0] = [left[at] for at in sorted(left)]
        chunks = [chunk for at in sorted(taken) for chunk in taken[at]]
        for chunk in chunks:
            chunk.behind = max(0, reach[chunk.source] - chunk.end)
        return chunks

    def let_go(self) -> None:
        """Free what was left out because it was read before, or follows a gap; to whom put it."""
        left_out, self._left_out = self._left_out, []
        for told in left_out:
            told()

    def _fill(
        self, order: Sequence[int], left: dict[int, Chunk], taken: dict[int, list[Chunk]],
        ends: dict[Position, int], room: int,
    ) -> int:  # fmt: skip
        """Move chunks from left to taken; the room that is not used."""
        for at in order:
            if not room:
                break
            chunk = left.pop(at)
            position = ends[chunk.source]
            if chunk.start > position:  # fetched before a rebalance; else it is to come again
                self._left_out += chunk.release, partial(chunk.rewind, position)
                continue
            rest = chunk.since(position)
            if not rest.records:
                self._left_out.append(chunk.release)
                continue
            if len(rest.records) > room:
                rest, left[at] = rest.split(room)
            taken.setdefault(at, []).append(rest)
            ends[chunk.source] = rest.end
            room -= len(rest.records)
        return room


def _freed() -> None:
    """The chunk's place in the window was freed when its round ended."""
