"""One role at work: a Faust app whose agent feeds lanes, and the lanes that follow its assignment.

Faust keeps the group: agents, assignment, rebalancing, lifecycle, web, sensors. Progress is the
lanes' own: an event is acknowledged to Faust when its chunk is queued, and committed by its lane.
"""

import asyncio
import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import faust
import structlog
from faust.app.base import BootStrategy
from faust.tables import TableManager
from faust.types import TP
from mode import CrashingSupervisor

from streams.application import Application, S, Snapshots
from streams.connection import Connection
from streams.lane import Lane
from streams.lane_config import LaneConfig
from streams.local_snapshot import sweep
from streams.membership import Membership
from streams.transaction import LaneFencedError
from streams.turns import Turns
from streams.web_server import BoundedWeb

log = structlog.get_logger(__name__)

# More transactions at once take longer each and are no more a second; those who wait for a turn
# gather what arrives (docs/decisions.md).
ROUNDS_AT_ONCE = 8


@dataclass(frozen=True)
class GroupConfig:
    """How the role's consumer group behaves, and where its web pages are (None: nowhere)."""

    session_timeout_s: float = 6.0
    heartbeat_interval_s: float = 2.0
    rebalance_timeout_s: float = 30.0
    fetch_bytes_max: int = 1 << 20
    watchdog_s: float = 60.0
    web_host: str = "127.0.0.1"
    web_port: int | None = None
    data_dir: Path = Path("data")
    faust_options: dict[str, Any] = field(default_factory=dict)


class NoProducer(BootStrategy):  # type: ignore[misc]
    """Lanes write by themselves: Faust needs no producer, and opens no client but the consumer."""

    enable_kafka_producer = False


class NoTables(TableManager):  # type: ignore[misc]
    """Lanes keep the state: nothing is to be waited for (Faust gives tables a second to appear)."""

    async def on_start(self) -> None:
        """As Faust's, without the second."""
        await self._update_channels()
        await self.recovery.start()


class ChunkApp(faust.App):  # type: ignore[misc]
    """A Faust app whose consumer is the transport's, with a `connection` like all our clients'."""

    BootStrategy = NoProducer
    connection: Connection

    def _new_web(self) -> BoundedWeb:
        return BoundedWeb(self)


class StalledError(Exception):
    """Records wait and none was applied for too long; a fresh start is the remedy."""


class RoleWorker(Generic[S]):
    """Runs one role until it is stopped or fails. `failure` says why it failed."""

    def __init__(
        self,
        lane_config: LaneConfig,
        group: GroupConfig,
        application: Application[S],
        snapshots: Snapshots | None = None,
    ) -> None:
        self.lanes: dict[int, Lane[S]] = {}
        self.totals = lane_config.totals
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.assigned = False
        self._stopping = False
        self._swept = False
        self._lane_config = lane_config
        self._group = group
        self._application = application
        self._snapshots = snapshots
        self._turns = Turns(ROUNDS_AT_ONCE, lane_config.rounds_per_s_max)
        self._watchdog: asyncio.Task[None] | None = None
        self.app = self._faust_app()
        folder = group.data_dir / "faust" / lane_config.group_id
        self._membership = Membership(folder / "member", lane_config.group_id)

    def _faust_app(self) -> faust.App:
        group, lanes = self._group, self._lane_config
        urls = [f"chunks://{address}" for address in lanes.connection.bootstrap.split(",")]
        app = ChunkApp(
            lanes.group_id,
            broker=urls,
            broker_session_timeout=group.session_timeout_s,
            broker_heartbeat_interval=group.heartbeat_interval_s,
            broker_rebalance_timeout=group.rebalance_timeout_s,
            broker_request_timeout=max(group.session_timeout_s * 2, 30.0),
            consumer_max_fetch_size=group.fetch_bytes_max,
            agent_supervisor=CrashingSupervisor,
            datadir=group.data_dir / "faust" / lanes.group_id,
            store="memory://",
            TableManager=NoTables,
            stream_wait_empty=False,
            table_standby_replicas=0,  # with standbys Faust evens out worse: a third worker idles
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=group.web_port is not None,
            web_bind=group.web_host,
            web_host=group.web_host,
            web_port=group.web_port or 6066,
            web_tables_enabled=False,
            web_router_enabled=False,
            **group.faust_options,
        )
        app.connection = lanes.connection
        app.finalize()
        topic = app.topic(
            *lanes.topics,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            maxsize=10_000,  # the transport's window is the bound
        )

        async def take_chunks(stream: Any) -> None:
            async for event in stream.noack().events():
                chunk = event.value
                event.ack()
                lane = self.lanes.get(chunk.source.partition)
                if lane is not None:
                    lane.put(chunk)
                elif not self._stopping:  # assigned, and its lane not there yet
                    chunk.release()
                    chunk.rewind(chunk.start)

        app.agent(topic, name=f"{lanes.group_id}.chunks")(take_chunks)
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_partitions_assigned.connect(self._on_assigned)
        return app

    # -- life

    async def start(self) -> None:
        """Join the group and start working. Raises KafkaError where the broker cannot be had."""
        self.app.conf.datadir.mkdir(parents=True, exist_ok=True)
        await self._membership.leave_former(self._lane_config.connection)
        self._watchdog = asyncio.create_task(self._watch(), name="watchdog")
        await self.app.start()

    async def stop(self) -> None:
        """Finish what runs, write snapshots, leave the group."""
        self._stopping = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        lanes, self.lanes = list(self.lanes.values()), {}
        await asyncio.gather(*(lane.close() for lane in lanes))
        await self.app.stop()
        self._membership.joined("")
        self._membership.close()

    @property
    def ready(self) -> bool:
        """Assigned, and every lane restored."""
        return self.assigned and all(lane.ready.is_set() for lane in self.lanes.values())

    @property
    def group_id(self) -> str:
        """The role's consumer group."""
        return self._lane_config.group_id

    def lag_records(self) -> int:
        """Records in our partitions that no round has taken yet, as last seen."""
        waiting = sum(lane.waiting_records for lane in self.lanes.values())
        return int(self.app.consumer.lag_records()) + waiting

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._group.watchdog_s / 4))
            if self.app.crashed:
                self._fail(self.app.crash_reason or RuntimeError("Faust stopped"))
            now = time.monotonic()
            for lane in self.lanes.values():
                idle_s = now - lane.progress_at
                busy = lane.waiting_records or not lane.ready.is_set()
                if busy and idle_s > self._group.watchdog_s:
                    self._fail(
                        StalledError(f"lane {lane.number} made no progress for {idle_s:.0f} s")
                    )

    # -- following the assignment

    async def _on_revoked(self, app: faust.App, revoked: Iterable[TP], **_: Any) -> None:
        """Lanes that stay with us go on after the rebalance; no round may run across it."""
        self.assigned = False
        await asyncio.gather(*(lane.quiesce() for lane in self.lanes.values()))

    async def _on_assigned(self, app: faust.App, assigned: Iterable[TP], **_: Any) -> None:
        if self._stopping:
            return
        self._membership.joined(self.app.consumer.member_id)
        wanted = {tp.partition for tp in assigned if tp.topic in self._lane_config.topics}
        gone = [n for n, lane in self.lanes.items() if n not in wanted or lane.task.done()]
        lost = [self.lanes.pop(number) for number in gone]
        self._sweep(wanted)
        for lane in self.lanes.values():
            lane.resume()
        for number in sorted(wanted - self.lanes.keys()):
            lane = Lane(
                number, self._lane_config, self._application, self._snapshots, self._still_ours,
                self._turns,
            )  # fmt: skip
            self.lanes[number] = lane
            lane.start()
            lane.task.add_done_callback(functools.partial(self._lane_ended, lane))
        self.assigned = True
        log.info("lanes.assigned", group=self._lane_config.group_id, lanes=sorted(wanted))
        await asyncio.gather(*(lane.close(lost=lane.number not in wanted) for lane in lost))

    def _sweep(self, wanted: set[int]) -> None:
        """Once, remove what former processes left of lanes that did not come back to us."""
        config, self._swept, swept = self._lane_config, True, self._swept
        if swept or config.snapshot_dir is None or config.state_topic is None:
            return
        # Where another process has the membership these may be its lanes' snapshots.
        kept = wanted if self._membership.held else None
        try:
            sweep(config.snapshot_dir, config.state_topic, kept)
        except OSError as error:
            log.warning("snapshot.stays", path=str(config.snapshot_dir), error=repr(error))

    async def _still_ours(self) -> bool:
        """Whether the group counts us in its present generation: asked, not assumed."""
        return bool(await self.app.consumer.is_member())

    def _lane_ended(self, lane: Lane[S], task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        ours = self.lanes.get(lane.number) is lane  # else it is no loss to be fenced
        log.error("lane.failed", lane=lane.number, ours=ours, error=str(error))
        if ours or not isinstance(error, LaneFencedError):
            self._fail(error)
