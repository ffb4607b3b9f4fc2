"""A lane's state log: how its state comes back, what the lane notes there, its local snapshot."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic
from uuid import uuid4

from aiokafka.structs import ConsumerRecord

from streams import state_log
from streams.application import S, Snapshots
from streams.chunk import Position, Record
from streams.lane_config import LaneConfig
from streams.local_snapshot import LocalSnapshot, Mark, path_of
from streams.state_log import Birth


class LaneLog(Generic[S]):
    """Partition `number` of the role's state topic; of a role without one, nothing.

    Args:
        told: called when a snapshot may have fallen due.
    """

    def __init__(
        self,
        number: int,
        config: LaneConfig,
        snapshots: Snapshots | None,
        told: Callable[[], None],
    ) -> None:
        self._config = config
        self._number = number
        self._end = 0  # of what the state holds
        self._birth: Birth | None = None
        self._noted: dict[str, int] = {}  # positions, as the log had them on opening
        self._at = None if config.state_topic is None else Position(config.state_topic, number)
        self._snapshot: LocalSnapshot | None = None
        if snapshots is not None and config.snapshot_dir is not None and self._at is not None:
            path = path_of(config.snapshot_dir, self._at)
            self._snapshot = LocalSnapshot(
                snapshots, path, config.snapshot_interval_s, config.compute, told
            )

    # -- how the state comes back

    async def restore(self, empty: Callable[[], S], progress: Callable[[int, int], None]) -> S:
        """An `empty` state with all that the log and the snapshot hold; see `state_log.restore`."""
        compute, at = self._config.compute, self._at
        state = await compute.run(empty)
        if at is None:
            return state
        mark = await self._from_snapshot(at, state)
        if mark is None:
            state = await compute.run(empty)

        async def load(records: list[ConsumerRecord]) -> None:
            rows = [(record.key, record.value) for record in records]
            await compute.run(lambda: state.load_records(rows))

        start = 0 if mark is None else mark.state_end
        restored = await state_log.restore(
            self._config.connection, at, load, start=start, progress=progress
        )
        self._end = restored.end
        self._birth = restored.birth or (mark.birth if mark else None)
        self._noted = restored.positions or (mark.positions if mark else {})
        return state

    async def _from_snapshot(self, at: Position, state: S) -> Mark | None:
        if self._snapshot is None:
            return None

        async def holds(mark: Mark) -> bool:
            return await state_log.holds(self._config.connection, at, mark.birth, mark.state_end)

        return await self._snapshot.restore(state, holds)

    async def committed(self) -> dict[Position, int]:
        """Where the lane stands in each input: its group's word, else what was noted here."""
        sources = [Position(topic, self._number) for topic in self._config.topics]
        return await state_log.committed(
            self._config.connection, self._config.group_id, sources, self._noted
        )

    # -- what a transaction writes

    def complete(
        self, writes: Mapping[Position, list[Record]], rows: list[Record],
        offsets: Mapping[Position, int], positions: Mapping[Position, int],
    ) -> tuple[Mapping[Position, list[Record]], str]:  # fmt: skip
        """A round's writes with the state's `rows`, and what the lane itself notes.

        That is where it stands now, and the log's name where it is born, which is returned as well.
        """
        if self._at is None:
            return writes, ""
        if offsets and self._config.notes_positions:
            rows.append(state_log.positions_record({**positions, **offsets}))
        name = ""
        if rows and self._birth is None and self._snapshot is not None:
            name = uuid4().hex
            rows.append(Record(state_log.BIRTH_KEY, name.encode()))  # the last of them
        return ({**writes, self._at: rows} if rows else writes), name

    def written(self, ends: Mapping[Position, int], name: str) -> None:
        """The transaction is committed: where partitions end, and the name that was given."""
        if self._at is not None:
            self._end = ends.get(self._at, self._end)
        if name:
            self._birth = Birth(self._end - 1, name)

    # -- its local snapshot

    def hurry_snapshot(self) -> None:
        """What the newest one holds must not stay."""
        if self._snapshot is not None:
            self._snapshot.hurry()

    def snapshot_due_s(self) -> float | None:
        """In how many seconds to snapshot; None where nothing has changed since, or not now."""
        if self._snapshot is None or self._birth is None:
            return None
        return self._snapshot.due_s(self._end)

    async def take_snapshot(
        self, copy: Callable[[], dict[str, Any]], positions: Mapping[Position, int]
    ) -> None:
        """Of the state as it is between two rounds; written while further rounds run."""
        if self._snapshot is None or self._birth is None:
            return
        noted = {source.topic: offset for source, offset in positions.items()}
        mark = Mark(self._birth, self._end, noted, int(time.time()))
        await self._snapshot.take(copy, mark)

    def remove_snapshot(self) -> None:
        """The lane goes to another owner, who alone will be told whom to forget."""
        if self._snapshot is not None:
            self._snapshot.remove()

    async def snapshot_written(self) -> None:
        """Wait for the end of the write under way."""
        if self._snapshot is not None:
            await self._snapshot.written()
