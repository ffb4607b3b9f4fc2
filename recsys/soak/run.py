"""The soak: faults in groups, the account after each group, and the table at the end."""

import os
import random
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from recsys.soak import pictures
from recsys.soak.clock_steps import CLOCK_STEPS
from recsys.soak.faults import Faults, Tally
from recsys.soak.proxy import Proxy
from recsys.soak.shop import PARTITIONS, Shop
from recsys.soak.table import Report
from recsys.soak.workers import SoakError
from streams.broker import find_runtime
from streams.crash_points import POINTS
from streams.local_kafka import HOST, LocalKafka, free_ports

PROXIED = "PROXIED"
FAULTS_AN_ACCOUNT = 5
SMALL_DISK_MB = 192
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How often each group of faults is tried."""

    kills: int = 40
    kills_at_each_point: int = 10
    rebalances: int = 50
    freezes: int = 3
    clock_steps: int = 1  # of each kind
    corruptions: int = 6
    pauses: int = 2
    broker_kills: int = 3
    cuts: int = 6
    poison: int = 3
    pictures: int = 1
    nodes: int = 3  # of the three-broker cluster, one after the other; 0 leaves it out
    full_disks: int = 2

    def scaled(self, share: float, only: Collection[str] = ()) -> "Plan":
        """A share of it, at least one of each; `only` these, where any is named.

        Raises ValueError for a name that is none of the plan's.
        """
        if unknown := set(only) - vars(self).keys():
            raise ValueError(f"{unknown.pop()} is none of {', '.join(vars(self))}")
        parts = {
            name: max(1, round(n * share))
            for name, n in vars(self).items()
            if n and (not only or name in only)
        }
        return Plan(**{**dict.fromkeys(vars(self), 0), **parts})

    @property
    def one_broker(self) -> bool:
        """Whether anything is to be tried on the broker with a disk of its own."""
        return any(n for name, n in vars(self).items() if name not in ("nodes", "full_disks"))


async def run(
    plan: Plan, seed: int, say: Say, report: Report, partitions: int = PARTITIONS
) -> None:
    """Try everything in the plan; the report has what is done so far, at any time.

    Raises SoakError where something does not recover at all, or an account does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-soak-") as folder:
        if plan.one_broker:
            async with one_broker(Path(folder), seed, partitions=partitions) as faults:
                await _try_groups(faults, _groups(faults, plan, seed), report, say)
        if plan.full_disks:
            await _fill_disks(plan, seed, Path(folder), report, say, partitions)
        if plan.nodes:
            async with three_brokers(Path(folder) / "three", seed, partitions) as faults:
                nodes = {
                    "three brokers": [_bind(faults.kill_node, n + 1) for n in range(plan.nodes)]
                }
                await _try_groups(faults, nodes, report, say)


async def _fill_disks(
    plan: Plan, seed: int, folder: Path, report: Report, say: Say, partitions: int
) -> None:
    with _small_disk(folder / "small") as disk:
        if disk is None:
            say("full disk: not tried, no small disk can be mounted here")
            return
        workers = folder / "workers"
        async with one_broker(workers, seed, kafka_folder=disk, partitions=partitions) as faults:
            tries = [_bind(faults.fill_disk, disk)] * plan.full_disks
            await _try_groups(faults, {"full disk": tries}, report, say)


@contextmanager
def _small_disk(path: Path) -> Iterator[Path | None]:
    path.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        yield None
        return
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "recsys-soak", str(path)]
    if subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run([umount, "--lazy", str(path)], check=False)


Group = Sequence[Callable[[], Awaitable[None]]]


def _groups(faults: Faults, plan: Plan, seed: int) -> Mapping[str, Group]:
    points = [point for point in POINTS for _ in range(plan.kills_at_each_point)]
    random.Random(seed).shuffle(points)
    return {
        "kills": [faults.kill] * plan.kills,
        "named places": [_bind(faults.kill_at, point) for point in points],
        "poison": [faults.poison] * plan.poison,
        "pictures": [faults.spoil_pictures] * (plan.pictures if pictures.possible() else 0),
        "rebalances": [faults.join_and_leave] * plan.rebalances,
        "freezes": [faults.freeze] * plan.freezes,
        "clocks": [_bind(faults.step_clocks, CLOCK_STEPS)] * plan.clock_steps,
        "snapshots": [faults.corrupt_snapshots] * plan.corruptions,
        "network": [faults.cut] * plan.cuts,
        "broker": [
            *[_bind(faults.pause_broker, 5.0)] * plan.pauses,
            *[_bind(faults.pause_broker, 20.0)] * plan.pauses,
            *[faults.kill_broker] * plan.broker_kills,
        ],
    }


def _bind(fault: Callable[..., Awaitable[None]], *given: object) -> Callable[[], Awaitable[None]]:
    return lambda: fault(*given)


async def _try_groups(
    faults: Faults, groups: Mapping[str, Group], report: Report, say: Say
) -> None:
    for name, tries in groups.items():
        before = set(faults.tallies)
        for number, fault in enumerate(tries, start=1):
            say(f"{name}: {number} of {len(tries)}")
            try:
                await fault()
            finally:
                report.add([tally for key, tally in faults.tallies.items() if key not in before])
        if tries:
            rows = [tally for key, tally in faults.tallies.items() if key not in before]
            await _account(faults, rows, report, f"{name}: ", say)


async def _account(
    faults: Faults, rows: Sequence[Tally], report: Report, prefix: str, say: Say
) -> None:
    """Account for everything up to here: each of the rows answers for all of it."""
    account = await faults.shop.account()
    report.accounts.append(account)
    for row in rows:
        row.lost, row.doubled = account.lost, account.doubled
    report.traffic[faults.shop.prefix] = faults.shop.feed.traffic.kinds.copy()
    report.memory_mb.append(faults.shop.workers[0].memory_mb())
    report.load.append(os.getloadavg()[0])
    say(f"{prefix}{account.accepted} accepted, {account.applied} applied, "
        f"{account.dead_letters} dead letters, {account.pictures} pictures, {account.lists} lists, "
        f"{account.lost} lost, {account.doubled} doubled")  # fmt: skip
    if not account.holds:
        raise SoakError("the account does not hold:\n" + "\n".join(account.findings))


async def run_for(
    minutes: float, rate: float, seed: int, say: Say, report: Report, partitions: int = PARTITIONS
) -> None:
    """Break whatever chance says until the time is up, under a load. Raises SoakError.

    After each fault all that waits must be done before the next: the lag returns to zero. One
    worker is spared what befalls single workers: its memory must stay flat.
    """
    rng, deadline = random.Random(seed), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="recsys-soak-") as folder:
        async with one_broker(Path(folder), seed, rate, partitions=partitions) as faults:
            (faults.spared,) = faults.shop.workers
            other = faults.shop.supervisor.add()
            other.start()
            await other.until_ready()
            tries: list[tuple[int, Callable[[], Awaitable[None]]]] = [
                (5, faults.kill),
                (4, lambda: faults.kill_at(rng.choice(POINTS))),
                (3, faults.join_and_leave),
                (1, faults.freeze),
                (1, lambda: faults.step_clocks(dict([rng.choice(list(CLOCK_STEPS.items()))]))),
                (2, faults.corrupt_snapshots),
                (3, faults.cut),
                (1, lambda: faults.pause_broker(5.0)),
                (1, faults.kill_broker),
                (1, faults.poison),
                (int(pictures.possible()), faults.spoil_pictures),
            ]
            weights = [weight for weight, _ in tries]
            while time.monotonic() < deadline:
                for _ in range(FAULTS_AN_ACCOUNT):
                    if time.monotonic() > deadline:
                        break
                    await rng.choices(tries, weights)[0][1]()
                    report.drained_s.append(await faults.shop.drained())
                    report.add(list(faults.tallies.values()))
                said = f"{sum(row.tried for row in report.rows)} faults: "
                await _account(faults, report.rows, report, said, say)


@asynccontextmanager
async def one_broker(
    folder: Path,
    seed: int,
    per_s: float = 20.0,
    kafka_folder: Path | None = None,
    partitions: int = PARTITIONS,
) -> AsyncIterator[Faults]:
    """A shop with one worker at work, behind a proxy, on one broker of its own."""
    client, outside = free_ports(2)
    advertised = f"PLAINTEXT://{HOST}:{client},{PROXIED}://{HOST}:{outside}"
    kafka = LocalKafka(
        find_runtime(show_progress=False),
        folder=kafka_folder,
        port=client,
        listeners={PROXIED: "PLAINTEXT"},
        properties={"advertised.listeners": advertised},
    )
    with kafka:
        target = int(kafka.addresses(PROXIED).rpartition(":")[2])
        async with Proxy(outside, target) as proxy:
            shop = Shop(
                kafka.bootstrap, _prefix(), folder, partitions=partitions, seed=seed, per_s=per_s
            )
            async with shop:
                shop.supervisor.settings["BROKER"] = f"{HOST}:{outside}"
                await _begin(shop)
                yield Faults(shop, seed, kafka, proxy)


@asynccontextmanager
async def three_brokers(folder: Path, seed: int, partitions: int) -> AsyncIterator[Faults]:
    """A shop with one worker at work, on a cluster of three brokers of its own."""
    with LocalKafka(find_runtime(show_progress=False), nodes=3, heap_mb=320) as kafka:
        shop = Shop(
            kafka.bootstrap, _prefix(), folder, partitions=partitions, seed=seed, replication=3
        )
        async with shop:
            await _begin(shop)
            yield Faults(shop, seed, kafka)


async def _begin(shop: Shop) -> None:
    worker = shop.supervisor.add()
    worker.start()
    await worker.until_ready()


def _prefix() -> str:
    return f"soak-{uuid.uuid4().hex[:8]}"
