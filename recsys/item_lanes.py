"""The items role: one writer an item. Folds what the lanes of users learned into item state."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from recsys import metrics
from recsys.item_updates import ItemUpdates, ItemUpdatesError
from recsys.pipeline import Pipeline
from recsys.refit import Refits
from recsys.user_state import DAY_S
from streams import codec, dead_letters, topics
from streams.application import Outcome
from streams.chunk import Chunk, Position
from streams.tail import Tail

log = structlog.get_logger(__name__)

# The worker that folds learns at once, the others when rows are written; a busy item's row is
# written once a commit and not at every event: a crash reads the updates since again.
COMMIT_S, COMMIT_S_MAX, COMMIT_S_MIN = 2.0, 8.0, 0.5
ROWS_PER_S = 500  # where many items change all the time commits are further apart
ROWS_MAX = 16_000  # changed rows that may wait for a commit, some 2.7 KB each
SWEEP_RECORDS = 1000  # items are looked through for the idle once in so many records of updates


class ItemLane:
    """The items of one partition; their rows lie in the state that the whole worker shares."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._begun_at = 0.0

    def begin(self) -> None:
        """Start a round."""
        self._begun_at = time.monotonic()
        self._pipeline.items.begin()

    def due_s(self) -> float | None:
        """In how many seconds what was folded in is to be committed; None where nothing waits."""
        items = self._pipeline.items
        if not items.open:
            return None
        return max(0.0, self._begun_at + commit_after_s(items.touched) - time.monotonic())

    def commit(self) -> None:
        """Keep the round's changes."""
        self._pipeline.items.commit()

    def rollback(self) -> None:
        """Take the round's changes back."""
        self._pipeline.items.rollback()

    def dirty_records(self) -> list[tuple[bytes, bytes | None]]:
        """The round's changes, as records of the state log."""
        return self._pipeline.items.dirty_records()

    def load_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take back records of the state log."""
        self._pipeline.items.load_records(records)

    def snapshot(self) -> dict[str, Any]:
        """Items are read back from their log alone: its size is theirs, not history's."""
        return {}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Nothing to take."""


def commit_after_s(rows: int) -> float:
    """How long so many changed rows may wait for their commit.

    >>> commit_after_s(10), commit_after_s(2_000), commit_after_s(9_000), commit_after_s(20_000)
    (2.0, 4.0, 8.0, 0.5)
    """
    if rows >= ROWS_MAX:
        return COMMIT_S_MIN
    return min(max(COMMIT_S, rows / ROWS_PER_S), COMMIT_S_MAX)


class ItemLanes:
    """The application of the items role."""

    def __init__(
        self, pipeline: Pipeline, tail: Tail, refits: Refits, prefix: str, own_prefix: str,
        is_live: Callable[[], bool], ttl_days: float,
    ) -> None:  # fmt: skip
        self._ttl_s = int(ttl_days * DAY_S)
        self._folded = 0
        self.pipeline = pipeline
        self.refits = refits
        self._tail = tail
        self._is_live = is_live
        self._updates = topics.ITEM_UPDATES.name(own_prefix)
        self._catalogue = topics.CATALOGUE.name(prefix)
        self._state = topics.ITEM_STATE.name(own_prefix)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the role reads."""
        return self._updates, self._catalogue

    def open(self, lane: int) -> ItemLane:
        """From here on the lane's rows are ours to write; the tail need not read them."""
        self._tail.owned.add(Position(self._state, lane))
        return ItemLane(self.pipeline)

    def opened(self, lane: int, state: ItemLane) -> None:
        """The lane is restored."""

    def closed(self, lane: int) -> None:
        """Another owner writes the rows now: follow it."""
        self._tail.owned.discard(Position(self._state, lane))

    def committed(self, lane: int, state: ItemLane) -> None:
        """The round has taken effect."""
        self.refits.consider(int(self.pipeline.items.clock.now))

    def due_s(self, lane: int, state: ItemLane) -> float | None:
        """A commit of what was folded in since the last one."""
        return state.due_s()

    def apply(self, lane: int, state: ItemLane, chunks: Sequence[Chunk]) -> Outcome:
        """One round: fold updates in the order of their log; refuse what the catalogue may not."""
        outcome = Outcome()
        for chunk in chunks:
            if chunk.source.topic == self._updates:
                self._fold(chunk)
            else:
                self._check_catalogue(lane, chunk, outcome)
        outcome.may_wait = state.due_s() != 0.0
        return outcome

    def _fold(self, chunk: Chunk) -> None:
        for record in chunk.records:
            try:
                updates = ItemUpdates.decode(self.pipeline.items, record.value)
            except ItemUpdatesError as error:
                log.error("item_updates.refused", offset=record.offset, error=str(error))
                metrics.dead_letter(record.topic, "item-updates")
                continue
            self.pipeline.fold(updates)
            self._folded += 1
            if self._folded % SWEEP_RECORDS == 0 and len(updates):
                self.pipeline.items.sweep(int(updates.times_s.max()) - self._ttl_s)

    def _check_catalogue(self, lane: int, chunk: Chunk, outcome: Outcome) -> None:
        """Every worker reads the catalogue by itself; its owner alone writes the dead letters."""
        if not self._is_live():
            return
        _, _, bad = codec.decode_chunk(topics.CATALOGUE, chunk.records)
        target = Position(topics.dead_letter_name(chunk.source.topic), lane)
        for record, error in bad:
            outcome.add(target, dead_letters.dead_letter(record, error))
            metrics.dead_letter(chunk.source.topic, error.reason)
