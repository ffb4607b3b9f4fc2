"""Who speaks on the board: sources by themselves, or neighbouring readings of lists at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.base import Answers, Scores
from models.columns import NONE, Slots
from models.history import CONTEXT_SIZE, RECENT_SIZE
from models.item_knn import LONG, ItemKnn, Readings
from recsys.board import Board, Unions
from recsys.contexts import Context, Contexts


@runtime_checkable
class Source(Protocol):
    """One source of candidates.

    It may also have `carriers(context, items) -> item slots`, the past item that carried each
    score (-1: none), `reason`, a phrase with `{item}` where that item's title goes, and `share`,
    which part of the places of a source it may fill in the union (1 where it has none). Where
    several lists are cheaper at once: `candidates_of_all(contexts)` and `carry_all`, see `ForAll`;
    and `describe_all(contexts, items, starts, out)`, which scores what others found.
    """

    @property
    def name(self) -> str: ...

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """Item slots with scores above 0, in any order."""


class ForAll:
    """A source that answers several lists at once."""

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """Item slots with scores above 0 for each list, in any order."""
        raise NotImplementedError

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """Write the past item behind each item that is asked for, -1 for none.

        List i's items are [starts[i], starts[i + 1]).
        """
        out[asked] = NONE

    def candidates(self, context: Context) -> tuple[Slots, Scores]:
        """Item slots with scores above 0, in any order."""
        return self.candidates_of_all(context.alone()).to(0)

    def carriers(self, context: Context, items: Slots) -> Slots:
        """The past item that carried each score; -1: none."""
        out, asked = np.full(len(items), NONE, np.int32), np.ones(len(items), np.bool_)
        self.carry_all(context.alone(), items, np.array([0, len(items)]), asked, out)
        return out


@dataclass
class Reading(ForAll):
    """What neighbour lists say of a stretch of the past, read in one of two ways.

    Args:
        channel: what was counted, see `models.item_knn`.
        conditional: read lists as shares of what followed, not as cosines.
        room: how many of the user's newest items speak.
        position_decay: weight of the n-th of them is this to the power n.
    """

    model: ItemKnn
    name: str
    reason: str
    channel: int = LONG
    conditional: bool = False
    room: int = CONTEXT_SIZE
    position_decay: float = 0.8
    share: float = 1.0

    def candidates_of_all(self, contexts: Contexts) -> Answers:
        """All neighbours of the users' newest items."""
        places, users = np.zeros(contexts.usable.shape[1], np.int32), len(contexts)
        read = self.model.read_all(
            contexts.items.tables[self.model.name], contexts.longer, readings_of([self]),
            np.zeros((users, 1), np.int64), places,
        )  # fmt: skip
        answers = [read.of(user, 0) for user in range(users)]
        return Answers.of([(found[said > 0], said[said > 0]) for found, said in answers])

    def carry_all(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64],
        asked: NDArray[np.bool_], out: Slots,
    ) -> None:  # fmt: skip
        """The past item that gave most of each score."""
        self.model.carry_all(
            contexts.items.tables[self.model.name], contexts.longer, readings_of([self]), items,
            starts, np.where(asked, 0, NONE).astype(np.int32), out,
        )  # fmt: skip

    def fading(self, count: int) -> NDArray[np.float32]:
        """How loud each of so many past items may speak here, the newest first."""
        position = np.arange(count, dtype=np.float32)
        return np.where(position < self.room, self.position_decay**position, np.float32(0.0))


def readings_of(readings: Sequence[Reading]) -> Readings:
    """They for the model."""
    room = max(RECENT_SIZE, *(reading.room for reading in readings))
    furthest = max(reading.room for reading in readings)
    return Readings(
        np.array([reading.channel for reading in readings]),
        np.array([reading.conditional for reading in readings]),
        np.array([reading.fading(room)[:furthest] for reading in readings], np.float32),
    )


class Speaker(Protocol):
    """One source or some neighbouring ones at once, on the board."""

    @property
    def columns(self) -> range: ...

    def speak(self, contexts: Contexts, board: Board) -> None:
        """Say to each list what is to be said."""

    def describe(self, contexts: Contexts, unions: Unions) -> None:
        """Score what others found, too, where that is more than was said."""

    def carry(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64], lead: NDArray[np.int8],
        out: Slots,
    ) -> None:  # fmt: skip
        """Write the past item behind each item whose leading column is one of these.

        List i's items are [starts[i], starts[i + 1]).
        """


@dataclass(eq=False)
class Alone:
    """A source that gives answers of its own."""

    source: Source
    column: int

    @property
    def columns(self) -> range:
        return range(self.column, self.column + 1)

    def speak(self, contexts: Contexts, board: Board) -> None:
        """Ask it, for all lists at once if it can."""
        together = getattr(self.source, "candidates_of_all", None)
        if together is not None:
            board.put(self.column, together(contexts))
        else:
            each = [self.source.candidates(context) for context in contexts]
            board.put(self.column, Answers.of(each))

    def describe(self, contexts: Contexts, unions: Unions) -> None:
        """Ask it, if it describes."""
        if (describe := getattr(self.source, "describe_all", None)) is not None:
            describe(contexts, unions.items, unions.starts, unions.scores[:, self.column])

    def carry(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64], lead: NDArray[np.int8],
        out: Slots,
    ) -> None:  # fmt: skip
        """Ask it, if it tells."""
        mine = lead == self.column
        if (together := getattr(self.source, "carry_all", None)) is not None:
            together(contexts, items, starts, mine, out)
        elif (carriers := getattr(self.source, "carriers", None)) is not None:
            for number, context in enumerate(contexts):
                part = slice(starts[number], starts[number + 1])
                if mine[part].any():
                    out[part][mine[part]] = carriers(context, items[part][mine[part]])


class Together:
    """Readings of the same lists, in one pass over them."""

    def __init__(self, readings: Sequence[Reading], column: int) -> None:
        self.readings, self.column = tuple(readings), column
        self.model = readings[0].model
        self._readings = readings_of(readings)

    @property
    def columns(self) -> range:
        return range(self.column, self.column + len(self.readings))

    def speak(self, contexts: Contexts, board: Board) -> None:
        """Read the lists once, and choose the best while they are at hand."""
        places = board.places[: contexts.usable.shape[1]]
        table, limits = contexts.items.tables[self.model.name], board.limits(self.columns)
        board.say(
            self.columns,
            self.model.read_all(table, contexts.longer, self._readings, limits, places, board.room),
        )

    def describe(self, contexts: Contexts, unions: Unions) -> None:
        """All neighbours have their scores already."""

    def carry(
        self, contexts: Contexts, items: Slots, starts: NDArray[np.int64], lead: NDArray[np.int8],
        out: Slots,
    ) -> None:  # fmt: skip
        """Look for all of them in one pass."""
        asked = lead.astype(np.int32) - np.int32(self.column)
        asked[asked >= len(self.readings)] = NONE
        self.model.carry_all(
            contexts.items.tables[self.model.name], contexts.longer, self._readings, items, starts,
            asked, out,
        )  # fmt: skip


def speakers_of(sources: Sequence[Source]) -> list[Speaker]:
    """Sources on the board, a column each in their order; neighbouring readings in one pass."""
    speakers: list[Speaker] = []
    for column, source in enumerate(sources):
        last = speakers[-1] if speakers else None
        if not isinstance(source, Reading):
            speakers.append(Alone(source, column))
        elif isinstance(last, Together) and last.model is source.model:
            speakers[-1] = Together([*last.readings, source], last.column)
        else:
            speakers.append(Together([source], column))
    return speakers
