"""A chunk: consecutive records of one partition, as one fetch brought them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

Headers = Sequence[tuple[str, bytes]]


class Position(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """What is to be written: a `None` value is a tombstone; without a time it gets that of now."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


def _nobody(*_: int) -> None:
    """Nobody waits for this chunk."""


@dataclass(slots=True, eq=False)
class Chunk:
    """Records `start <= offset < end` of one partition, in the order of the log.

    `start` is where the fetch before it ended, so a reader can tell a gap from offsets that
    compaction or transaction markers took: `start <= position` means nothing was skipped.
    A reader that finds a gap calls `rewind` with its position, and gets the records again; one that
    is done calls `release`, for another chunk to be fetched. `behind` is how many offsets of the
    partition are known to lie behind the chunk.
    """

    source: Position
    start: int
    records: list[ConsumerRecord]
    release: Callable[[], None] = field(default=_nobody, repr=False)
    rewind: Callable[[int], None] = field(default=_nobody, repr=False)
    behind: int = 0

    @property
    def end(self) -> int:
        """Offset after the last record: what may be committed once all of it took effect."""
        return int(self.records[-1].offset) + 1

    def since(self, offset: int) -> "Chunk":
        """The part at or after `offset`; what came before has taken effect already."""
        if self.start >= offset:
            return self
        rest = [record for record in self.records if record.offset >= offset]
        return Chunk(self.source, offset, rest, self.release, self.rewind, self.behind)

    def split(self, count: int) -> "tuple[Chunk, Chunk]":
        """Its first `count` records, and the rest, which keeps the chunk's place in the window."""
        head = Chunk(self.source, self.start, self.records[:count], rewind=self.rewind)
        head.behind = self.behind + self.end - head.end
        rest = replace(self, start=head.end, records=self.records[count:])
        return head, rest
