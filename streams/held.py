"""Rounds that were applied and wait for a commit together: kept, or taken back, all at once."""

from collections.abc import Callable, Mapping, Sequence

from streams.chunk import Chunk, Position


class Held:
    """How far such rounds reach in each input, and who reads an input again."""

    def __init__(self) -> None:
        self.offsets: dict[Position, int] = {}
        self.records = 0
        self._rewinds: dict[Position, Callable[[int], None]] = {}

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def add(self, chunks: Sequence[Chunk]) -> None:
        """One more round, of these chunks."""
        for chunk in chunks:
            self.offsets[chunk.source] = chunk.end
            self.records += len(chunk.records)
            self._rewinds[chunk.source] = chunk.rewind

    def kept(self) -> None:
        """They are committed."""
        self.take_back()
        self._rewinds.clear()

    def take_back(self) -> None:
        """Nothing came of them: their chunks are gone, and are to be read again."""
        self.offsets.clear()
        self.records = 0

    def read_again(self, positions: Mapping[Position, int]) -> None:
        """Have what was taken back read from where the lane stands now.

        Without this only a later record of the same input would show the gap.
        """
        for source, rewind in self._rewinds.items():
            rewind(positions[source])
        self._rewinds.clear()
