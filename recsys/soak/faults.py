"""The faults: each breaks something, mends it, and says how long the next new list took."""

import asyncio
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from recsys.soak import clock_steps, damage, pictures
from recsys.soak.fencing import Freeze
from recsys.soak.proxy import Proxy
from recsys.soak.shop import Shop
from recsys.soak.workers import ROLES, WorkerProcess
from streams.local_kafka import LocalKafka

SESSION_S = 6.0
UNFINISHED = ("before-send", "before-offsets", "before-commit")  # there a write is still to come


@dataclass
class Tally:
    """One row of the table."""

    fault: str
    tried: int = 0
    survived: int = 0
    first_s: list[float] = field(default_factory=list)  # until the first new list
    all_s: list[float] = field(default_factory=list)  # until every lane had one
    lost: int = 0
    doubled: int = 0
    notes: list[str] = field(default_factory=list)


class Faults:
    """Everything that can be done to a shop. Every method is one try of one fault."""

    def __init__(
        self, shop: Shop, seed: int, kafka: LocalKafka | None = None, proxy: Proxy | None = None
    ) -> None:
        self.shop = shop
        self.kafka = kafka
        self.proxy = proxy
        self.tallies: dict[str, Tally] = {}
        self.spared: WorkerProcess | None = None  # no single worker's fault befalls it
        self._random = random.Random(seed)

    def tally(self, fault: str) -> Tally:
        """The row of a fault."""
        return self.tallies.setdefault(fault, Tally(fault))

    async def _recovered(self, tally: Tally, since: float) -> None:
        first_s, all_s = await self.shop.until_lists_flow(since)
        tally.first_s.append(first_s)
        tally.all_s.append(all_s)
        tally.survived += 1

    def _one(self) -> WorkerProcess:
        running = [worker for worker in self.shop.workers if worker.running]
        return self._random.choice([worker for worker in running if worker is not self.spared])

    # -- workers

    async def kill(self) -> None:
        """SIGKILL at a random moment; started again at once."""
        tally = self.tally("worker killed at a random moment")
        tally.tried += 1
        await asyncio.sleep(self._random.uniform(0.1, 2.0))
        worker, since = self._one(), time.monotonic()
        worker.kill()
        worker.start()
        await self._recovered(tally, since)

    async def kill_at(self, point: str) -> None:
        """SIGKILL at a named place; started again at once."""
        tally = self.tally(f"worker killed at {point}")
        tally.tried += 1
        worker = self._one()
        worker.kill()
        passes = self._random.randint(1, 12)
        if point == "restore":  # a snapshot of now would leave nothing to read back
            passes = 1
            for path in self._snapshots_of(worker):
                path.unlink()
        worker.start(crash_at=f"{point}:{passes}")
        worker.wanted = False
        await worker.until_ended(120.0)
        since = time.monotonic()
        worker.start()
        await self._recovered(tally, since)

    async def join_and_leave(self) -> None:
        """Another worker comes, and goes again after a while: told to, or killed."""
        tally = self.tally("worker joins and leaves")
        tally.tried += 1
        spare = self._spare()
        spare.start()
        await asyncio.sleep(self._random.uniform(2.0, 8.0))
        since = time.monotonic()
        if self._random.random() < 0.5:
            spare.kill()
        else:
            code, seconds = await spare.stop()
            # Before Python has loaded it there is no handler, and nothing to finish.
            if code not in (0, -signal.SIGTERM) or seconds > 10:
                tally.notes.append(f"left with code {code} after {seconds:.1f} s")
        await self._recovered(tally, since)

    def _spare(self) -> WorkerProcess:
        return self._named("spare")

    def _named(self, name: str, roles: Sequence[str] = ROLES, **settings: str) -> WorkerProcess:
        for worker in self.shop.workers:
            if worker.name == name:
                return worker
        return self.shop.supervisor.add(name, roles, **settings)

    async def freeze(self) -> None:
        """SIGSTOP in mid-write and beyond the session, while another works on; SIGCONT: fenced."""
        tally = self.tally("worker frozen beyond its session")
        tally.tried += 1
        frozen = self._one()
        spare = self._spare()
        spare.start()
        await spare.until_ready()
        freeze = Freeze(self.shop, frozen)
        await freeze.begin(self._random.choice(UNFINISHED), self._random.randint(10, 30))
        since = time.monotonic()
        await asyncio.sleep(SESSION_S + self._random.uniform(2.0, 6.0))
        await self._recovered(tally, since)
        amiss = await freeze.end()
        tally.survived -= bool(amiss)
        tally.notes += amiss
        await self.shop.until_lists_flow(time.monotonic())
        await spare.stop()
        await self.shop.until_lists_flow(time.monotonic())

    async def step_clocks(self, steps: Mapping[str, int]) -> None:
        """The wall clock of a worker is set wrong and right again, once for each of the steps."""
        worker = self._one()
        clocked = self._named("clocked", **clock_steps.FEW_LISTS)
        clocked.clock_steps = True
        clocked.start()
        await clocked.until_ready()
        await worker.stop()
        await self.shop.until_lists_flow(time.monotonic())
        for told, seconds in steps.items():
            tally = self.tally(f"worker's clock set {told}")
            tally.tried += 1
            first_s, all_s, amiss = await clock_steps.step(self.shop, clocked, seconds)
            tally.first_s.append(first_s)
            tally.all_s.append(all_s)
            tally.survived += not amiss
            tally.notes += [amiss] if amiss else []
        worker.start()
        await worker.until_ready()
        await clocked.stop()
        await self.shop.until_lists_flow(time.monotonic())

    # -- snapshots

    async def corrupt_snapshots(self) -> None:
        """Truncate, flip a bit, or exchange the snapshots of a killed worker."""
        tally = self.tally("snapshots corrupted")
        tally.tried += 1
        worker = self._one()
        while not (paths := self._snapshots_of(worker)):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        worker.kill()
        refused = worker.log().count("snapshot.refused")
        way = damage.WAYS[tally.tried % len(damage.WAYS)]
        for path in paths:
            way(path, self._random)
        since = time.monotonic()
        worker.start()
        await self._recovered(tally, since)
        broken = {path.stem.rpartition("-")[2] for path in paths}
        met = broken & worker.lanes(f"{self.shop.prefix}-behaviour")  # of several it may own others
        if met and worker.log().count("snapshot.refused") == refused:
            tally.survived -= 1
            tally.notes.append(f"snapshots were believed after {way.__name__}")

    def _snapshots_of(self, worker: WorkerProcess) -> list[Path]:
        folder = self.shop.supervisor.folder / worker.name / "snapshots"
        return sorted(folder.glob("*.snapshot"))

    # -- broker and network

    async def pause_broker(self, seconds: float) -> None:
        """The broker answers nothing for a while."""
        assert self.kafka is not None
        tally = self.tally(f"broker paused for {seconds:.0f} s")
        tally.tried += 1
        self.kafka.pause()
        await asyncio.sleep(seconds)
        self.kafka.resume()
        await self._recovered(tally, time.monotonic())

    async def kill_broker(self) -> None:
        """The broker dies as by a power cut, and starts again on its data."""
        assert self.kafka is not None
        tally = self.tally("broker killed and restarted")
        tally.tried += 1
        await asyncio.to_thread(self.kafka.kill)
        await asyncio.sleep(self._random.uniform(0.5, 5.0))
        await asyncio.to_thread(self.kafka.restart)
        await self._recovered(tally, time.monotonic())

    async def kill_node(self, node_id: int) -> None:
        """One of three brokers dies: leaders and coordinators move, and move back."""
        assert self.kafka is not None
        tally = self.tally("one of three brokers killed, its coordinators moved")
        tally.tried += 1
        since = time.monotonic()
        await asyncio.to_thread(self.kafka.kill, node_id)
        await self._recovered(tally, since)
        await asyncio.to_thread(self.kafka.restart, node_id)
        await self.shop.until_lists_flow(time.monotonic())

    async def cut(self) -> None:
        """The network between workers and broker is cut, and heals."""
        assert self.proxy is not None
        tally = self.tally("network cut and healed")
        tally.tried += 1
        await self.proxy.cut()
        await asyncio.sleep(self._random.choice((1.0, 4.0, SESSION_S + 3.0)))
        await self.proxy.heal()
        await self._recovered(tally, time.monotonic())

    async def fill_disk(self, disk: Path) -> None:
        """The broker's disk is full; its operator makes room, and starts it again."""
        assert self.kafka is not None
        tally = self.tally("broker's disk full")
        tally.tried += 1
        filler = disk / "filler"
        try:
            await asyncio.to_thread(_fill, filler)
            await asyncio.sleep(8.0)
        finally:
            filler.unlink(missing_ok=True)
        await asyncio.to_thread(self.kafka.kill)
        await asyncio.to_thread(self.kafka.restart)
        await self._recovered(tally, time.monotonic())

    # -- input

    async def poison(self, count: int = 1000) -> None:
        """Broken records of every kind, all at once."""
        tally = self.tally(f"{count} broken records at once")
        tally.tried += 1
        since = time.monotonic()
        await self.shop.feed.send_poison(count)
        await self._recovered(tally, since)

    async def spoil_pictures(self, count: int = 1000) -> None:
        """Broken pictures among good ones, to a worker that is killed in the middle of them."""
        tally = self.tally(f"{count} broken pictures at once, their worker killed")
        tally.tried += 1
        shop, encoder = self.shop, pictures.ENCODER
        worker = self._named(
            "images", ("images",), IMAGES__ENCODER=encoder, IMAGES__ENCODER_ID=pictures.ENCODER_ID
        )
        worker.start()
        await worker.until_ready()
        since = time.monotonic()
        await pictures.send(shop.connection, shop.prefix, self._random, count)
        await asyncio.sleep(self._random.uniform(0.1, 1.0))
        worker.kill()
        worker.start()
        await shop.until_settled(pictures.READS)
        code, _ = await worker.stop()
        if code not in (0, -signal.SIGTERM):  # as above: Python may be loading it still
            tally.notes.append(f"the images role ended with code {code}")
        await self._recovered(tally, since)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
