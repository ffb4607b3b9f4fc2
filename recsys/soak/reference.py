"""An undisturbed run of the same log, in this process: the state that any run must end with."""

from recsys.catalogue import Catalogue
from recsys.conservation import read_items, read_lane
from recsys.item_state import ItemState
from recsys.item_updates import ItemUpdates
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from recsys.user_state import UserState
from streams import state_log, topics
from streams.application import Outcome
from streams.chunk import Chunk, Position
from streams.connection import Connection

CHUNK_RECORDS = 700  # another size than the workers'


async def run(
    connection: Connection, prefix: str, partitions: int
) -> tuple[list[UserState], ItemState]:
    """The users of each lane, and the items."""
    items = ItemState(default_models())
    pipeline = Pipeline(PipelineConfig(), items, Catalogue(items))
    config = UserLanesConfig(
        prefix=prefix,
        own_prefix=prefix,
        partitions=partitions,
        lists_per_s_max=0.0,
        list_delay_ms_max=10**9,
    )
    lanes = UserLanes(pipeline, config)
    updates_at = Position(topics.ITEM_UPDATES.name(prefix), 0)
    found = []
    items.begin()
    for number in range(partitions):
        source = Position(topics.BEHAVIOUR.name(prefix), number)
        records: list[object] = []
        await state_log.restore(connection, source, records.extend)
        lane = lanes.open(number)
        for first in range(0, len(records), CHUNK_RECORDS):
            chunk = Chunk(source, 0, records[first : first + CHUNK_RECORDS])
            lane.begin()
            outcome = lanes.apply(number, lane, [chunk])
            assert isinstance(outcome, Outcome), "no lane waits for others here"
            lane.commit()
            for record in outcome.writes.get(updates_at, ()):
                pipeline.fold(ItemUpdates.decode(items, record.value or b""))
        found.append(lane.users)
    return found, items


async def differences(connection: Connection, prefix: str, partitions: int) -> list[str]:
    """Where the committed state differs from an undisturbed run's, in words."""
    lanes, items = await run(connection, prefix, partitions)
    told = []
    for number, wanted in enumerate(lanes):
        users = (await read_lane(connection, prefix, number)).users
        if users.digest() != wanted.digest():
            rows, wanted_rows = dict(users.records()), dict(wanted.records())
            keys = [
                k for k in rows.keys() | wanted_rows.keys() if rows.get(k) != wanted_rows.get(k)
            ]
            told.append(f"lane {number} differs from an undisturbed run in {sorted(keys)[:5]}")
    if (await read_items(connection, prefix)).digest() != items.digest():
        told.append("the items differ from an undisturbed run's")
    return told
