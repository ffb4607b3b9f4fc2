"""The refit: item factors and weights from all that is known of users, beside the stream.

It reads the compacted user state (every user's distinct items and their weights: the whole matrix,
however long the log), fits implicit's ALS and EASE to it, and writes both in one transaction.
It runs in a process of its own, started by the worker that owns the items (`Refits`).
"""

import asyncio
import os
import sys
import threading
import time

import numpy as np
import structlog
from aiokafka.structs import ConsumerRecord

from models.mapping import ImageMapping, fit_mapping
from models.mf import FactorsConfig
from recsys import factors
from recsys.factorise import Factorised, RefitPlan, factorise
from recsys.item_state import ItemState
from recsys.pipeline import default_models
from recsys.settings import Settings
from recsys.user_lane import UserLane
from recsys.user_state import UserState
from recsys.vectors import ProductVectors
from streams import codec, cpus, state_log, topics
from streams.chunk import Position, Record
from streams.transaction import LaneProducer

log = structlog.get_logger(__name__)

NICENESS = 10
RETRY_S_MIN, RETRY_S_MAX = 60.0, 3600.0  # after a refit that failed
MAPPED_MIN = 20  # products with factors and a picture, for a map between the two


async def run_refit(settings: Settings, config: FactorsConfig | None = None) -> str | None:
    """Read, factorise, write; the new model version, or None where there is nothing to fit.

    Raises KafkaError, LaneFencedError or TransactionUncertainError where it could not be written;
    the factors in force stay.
    """
    connection = settings.connection()
    items = ItemState(default_models())
    lanes, reflects = [], {}
    for lane in range(settings.partitions):
        state = UserLane(UserState(items))
        source = Position(topics.USER_STATE.name(settings.own_prefix), lane)
        restored = await state_log.restore(connection, source, _loader(state))
        reflects[str(lane)] = restored.end
        lanes.append(state.users)
    found = factorise(lanes, len(items), config)
    if found is None:
        return None
    pictures = await _pictures(settings, items)
    mapping = _mapping(pictures, found)
    now_ms = time.time_ns() // 1_000_000
    announcement = factors.Announcement(
        factors.VERSION,
        f"als-{now_ms}",
        -(-len(found.slots) // factors.PART_ITEMS),
        len(found.slots),
        found.users,
        found.vectors.shape[1],
        now_ms,
        reflects,
        mapping is not None,
    )
    fitted = factors.Refit(
        announcement.version, items.ids.keys[found.slots], found.vectors, mapping,
        pictures.encoder_id, found.weights,
    )  # fmt: skip
    await _write(settings, announcement, fitted)
    return announcement.version


def _loader(state: UserLane) -> state_log.Load:
    def load(records: list[ConsumerRecord]) -> None:
        state.load_records((record.key, record.value) for record in records)

    return load


async def _pictures(settings: Settings, items: ItemState) -> ProductVectors:
    pictures = ProductVectors(items, settings.images.encoder_id)

    def load(records: list[ConsumerRecord]) -> None:
        found, _, _ = codec.decode_chunk(topics.ITEM_EMBEDDINGS, records)
        for embedding in found:
            if embedding is not None:
                pictures.put(embedding)

    source = Position(topics.ITEM_EMBEDDINGS.name(settings.prefix), 0)
    await state_log.restore(settings.connection(), source, load)
    return pictures


def _mapping(pictures: ProductVectors, found: Factorised) -> ImageMapping | None:
    """From pictures into the factors, where enough products have both."""
    slots, images = pictures.items()
    both = np.isin(slots, found.slots)
    if both.sum() < MAPPED_MIN:
        return None
    slots = slots[both]
    vectors = found.vectors[np.searchsorted(found.slots, slots)]
    return fit_mapping(images[both], vectors, np.log1p(found.item_users[slots]))


async def _write(
    settings: Settings, announcement: factors.Announcement, fitted: factors.Refit
) -> None:
    target = Position(topics.ITEM_FACTORS.name(settings.own_prefix), 0)
    records = [Record(*record) for record in factors.encode(announcement, fitted)]
    producer = LaneProducer(
        settings.connection(), f"{settings.own_application}-refit", timeout_ms=60_000
    )
    await producer.start()
    try:
        await producer.commit({target: records}, {}, f"{settings.own_application}-refit")
    finally:
        await producer.stop()


class Refits:
    """Starts a refit when enough is new: when events have grown by a share, and not too often.

    One that failed is tried again though nothing is new, each time after twice as long.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fitted_at = 0
        self._failures = 0  # since the last that succeeded
        self._not_before = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def consider(self, events: int) -> None:
        """`events` have been folded in so far; start a refit if it is time for one."""
        rank = self._settings.rank
        plan = RefitPlan(rank.refit_events_min, rank.refit_growth)
        if (
            (self._task is not None and not self._task.done())
            or not plan.due(events, self._fitted_at)
            or time.monotonic() < self._not_before
        ):
            return
        self._task = asyncio.create_task(self._run(events), name="refit")

    async def _run(self, events: int) -> None:
        why = await self._failure()
        wait_s = self._settings.rank.refit_interval_s
        if why is None:
            self._fitted_at, self._failures = events, 0
        else:
            longer = max(wait_s, RETRY_S_MIN) * 2.0 ** min(self._failures, 10)
            wait_s = max(wait_s, min(longer, RETRY_S_MAX))
            self._failures += 1
            log.warning("refit.failed", why=why, again_in_s=wait_s)
        self._not_before = time.monotonic() + wait_s

    async def _failure(self) -> str | None:
        """Run one in a process of its own; why it failed, or None."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "recsys.refit",
                stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            return f"its process could not be started: {error}"
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            process.stdin.write(self._settings.for_child() + b"\n")  # left open: it ends with us
            told = await process.stderr.read()
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
        if code < 0:
            return f"killed by signal {-code}"
        last = told.decode(errors="replace").strip().splitlines()[-1:]
        return "".join(last) or f"ended with code {code}" if code else None

    async def stop(self) -> None:
        """End a refit that runs; what it has not committed was never there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def main() -> None:
    """Entry of the process: settings as a line of JSON on standard input."""
    os.nice(NICENESS)
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    cpus.leave(settings.worker.cpus)
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    asyncio.run(run_refit(settings))


def _end_with_the_worker() -> None:
    """Where the worker dies its end of our standard input closes, and nobody waits for factors."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
