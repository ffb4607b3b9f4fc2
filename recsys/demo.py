"""The demo: the main job on real data and a real Kafka, to an end that shows what happened.

It does what a user would: create topics, start a worker, produce a catalogue and a behaviour log,
consume the results topic. Most of the log is replayed as fast as it goes; the rest at a steady
pace, so that each event is answered by its own list and freshness can be measured.
"""

import asyncio
import math
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from recsys.demo_view import DemoView
from recsys.log import BehaviourLog
from recsys.settings import Settings
from streams import admin, codec, topics
from streams.broker import BrokerError, open_broker
from streams.connection import Connection
from streams.events import BehaviourEvent, Product, RankedList
from streams.local_kafka import free_ports
from streams.producer import BatchProducer, ProduceError
from streams.tail import Tail

SAMPLE = Path(__file__).parent / "sample"
PARTITIONS = 4
LIVE_EVENTS = 10_000
LIVE_EVENTS_PER_S = 500
TICK_S = 0.005
READY_TIMEOUT_S = 90.0
DRAIN_TIMEOUT_S = 120.0
POPULARITY_HALF_LIFE_EVENTS = 2_000
K = 10


class DemoError(Exception):
    """The demo cannot go on; the message is for the person who runs it."""


@dataclass
class Served:
    """What has been read of the results topic: each user's newest list, and how fresh lists are."""

    newest: dict[str, RankedList] = field(default_factory=dict)
    waiting: dict[str, dict[int, float]] = field(default_factory=dict)
    freshness_ms: list[float] = field(default_factory=list)
    lists: int = 0

    def load(self, records: list[ConsumerRecord]) -> None:
        """Take lists as they become readable."""
        now = time.perf_counter()
        for record in records:
            ranked = msgspec.json.decode(record.value, type=RankedList)
            self.newest[ranked.user_id] = ranked
            self.lists += 1
            sent = self.waiting.get(ranked.user_id, {})
            for offset in [each for each in sent if each <= ranked.trigger.offset]:
                self.freshness_ms.append((now - sent.pop(offset)) * 1000)

    def sent(self, user_id: str, offset: int) -> None:
        """An event was produced: it is answered by its own list or by a newer one of its user."""
        self.waiting.setdefault(user_id, {})[offset] = time.perf_counter()

    @property
    def unanswered(self) -> int:
        """Events that no list reflects yet."""
        return sum(map(len, self.waiting.values()))


class Quality:
    """HR@10 and NDCG@10 of the list a user had when their next basket came, beside popularity.

    Popularity counts decay by half every 2,000 events. An answer is scored when its user had a
    list and its item had been seen before; a basket is predicted before any of it is learned.
    """

    def __init__(self) -> None:
        self.scored = 0
        self.gains: dict[str, list[float]] = {"recsys": [], "popularity": []}
        self._weights: Counter[str] = Counter()
        self._unit = 1.0

    def learn(self, event: BehaviourEvent) -> None:
        """Count an event for popularity; older ones weigh less because newer ones weigh more."""
        self._unit *= 2 ** (1 / POPULARITY_HALF_LIFE_EVENTS)
        if event.type != "return":
            self._weights[event.item_id] += self._unit  # type: ignore[assignment]

    def score(self, basket: Sequence[BehaviourEvent], ranked: RankedList | None) -> None:
        """Score a basket against what was shown before it."""
        if ranked is None:
            return
        shown = {"recsys": [item.item_id for item in ranked.items[:K]], "popularity": self._top()}
        for event in basket:
            if event.type != "purchase" or event.item_id not in self._weights:
                continue
            self.scored += 1
            for name, items in shown.items():
                hit = event.item_id in items
                self.gains[name].append(
                    1 / math.log2(items.index(event.item_id) + 2) if hit else 0.0
                )

    def _top(self) -> list[str]:
        return [item for item, _ in self._weights.most_common(K)]

    def hit_rate(self, name: str) -> float:
        """HR@10."""
        gains = self.gains[name]
        return sum(gain > 0 for gain in gains) / len(gains) if gains else 0.0

    def ndcg(self, name: str) -> float:
        """NDCG@10."""
        gains = self.gains[name]
        return sum(gains) / len(gains) if gains else 0.0


def read_sample() -> tuple[list[BehaviourEvent], list[Product]]:
    """The shipped log and catalogue, in the log's order."""
    rows = BehaviourLog(SAMPLE / "online-retail.csv.gz")
    events = [event for _, event in rows if isinstance(event, BehaviourEvent)]
    return events, list(_products(SAMPLE / "online-retail-items.csv.gz"))


def _products(path: Path) -> Iterator[Product]:
    import csv  # only here
    import gzip

    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            price = float(row["price"]) if row.get("price") else None
            yield Product(item_id=row["item_id"], title=row["title"].strip(), price=price)


def run(settings: Settings, limit: int | None = None, *, plain: bool = False) -> int:
    """Run the demo; the exit code. `limit` shortens the log, `plain` draws nothing that moves."""
    view = DemoView(plain=plain)
    try:
        with open_broker() as broker:
            view.say(f"Kafka: {broker.origin} at {broker.bootstrap}")
            prefix = f"{settings.prefix}.demo-{int(time.time()):x}"
            mine = settings.model_copy(
                update={
                    "broker": broker.bootstrap, "prefix": prefix, "application": prefix,
                    "partitions": PARTITIONS, "item_partitions": 1, "replication": 1,
                }
            )  # fmt: skip
            try:
                asyncio.run(_demo(mine, view, limit))
            finally:
                if broker.local is None:
                    asyncio.run(_tidy(mine, view))
    except (BrokerError, DemoError, ProduceError, admin.AdminError) as error:
        view.fail(str(error))
        return 1
    return 0


async def _demo(settings: Settings, view: DemoView, limit: int | None) -> None:
    started = time.perf_counter()
    connection = settings.connection()
    wanted = admin.wanted_topics(settings.prefix, settings.partitions, 1, 1)
    await admin.create_topics(connection, wanted)
    view.say(f"Topics: {len(wanted)} under {settings.prefix}")
    events, products = read_sample()
    if limit is not None:
        events = events[:limit]
    titles = {product.item_id: product.title for product in products}
    with worker(settings) as process:
        served = Served()
        tail = Tail(
            connection, {topics.RECOMMENDATIONS.name(settings.prefix): served.load}
        )  # every list from the start, read_committed
        catalogue = topics.CATALOGUE.name(settings.prefix)
        async with BatchProducer(connection, catalogue) as producer:
            for product in products:
                if producer.add(product.item_id.encode(), codec.encode(product)):
                    await producer.send_full()
        with view.waiting("The worker compiles its kernels and joins the group"):
            await _until_ready(process)
        await tail.start()
        try:
            await _replay_and_watch(connection, settings, view, events, titles, served, process)
        finally:
            await tail.stop()
        await _show_photos(connection, settings, view)
    view.say(f"All of it took {time.perf_counter() - started:.0f} s.")


async def _tidy(settings: Settings, view: DemoView) -> None:
    """On a Kafka that goes on without us the demo's topics are deleted."""
    names = [each.name for each in admin.wanted_topics(settings.prefix, settings.partitions, 1, 1)]
    try:
        there = sorted(await admin.find_topics(settings.connection(), names))
        if there:
            await admin.delete_topics(settings.connection(), there)
    except (admin.AdminError, KafkaError, OSError) as error:
        view.say(
            f"The demo's topics are still there ({error}); this deletes them: "
            f"kafka-topics.sh --bootstrap-server {settings.broker} --delete "
            f"--topic '{settings.prefix}.*'"
        )
    else:
        view.say(f"Deleted: the demo's {len(there)} topics under {settings.prefix}")


async def _show_photos(connection: Connection, settings: Settings, view: DemoView) -> None:
    """Clothes join the catalogue with their pictures, and users' photos are answered by lists."""
    try:
        from recsys.demo_photos import contact_sheets, photo_tour
        from recsys.uploads import UploadError
    except ImportError as error:
        view.say(f"Photos are left out: {error.name} is not there, pip install recsys[images]")
        return
    try:
        with view.waiting("180 pictures of clothes become vectors, four photos are sent"):
            tours = await photo_tour(connection, settings.prefix, settings.images.encoder_id)
    except UploadError as error:
        raise DemoError(str(error)) from error
    for tour in tours:
        found = ", ".join(item.item_id for item in tour.ranked.items[:5])
        view.say(f"A photo, {tour.photo}: after {tour.seconds:.2f} s a list of {found}")
    sheet = Path(settings.data_dir) / "demo" / "photos.png"
    sheet.write_bytes(contact_sheets(tours))
    view.say(f"Photos and what answered them: {sheet}")


async def _replay_and_watch(
    connection: Connection, settings: Settings, view: DemoView, events: list[BehaviourEvent],
    titles: dict[str, str], served: Served, process: "WorkerProcess",
) -> None:  # fmt: skip
    live = min(LIVE_EVENTS, len(events) // 3)
    past, coming = events[:-live], events[-live:]
    quality = Quality()
    topic = topics.BEHAVIOUR.name(settings.prefix)
    async with BatchProducer(connection, topic) as producer:
        begun = time.perf_counter()
        with view.progress(f"Replaying {len(past):,} events of a shop's log", len(past)) as done:
            for number, event in enumerate(past, 1):
                quality.learn(event)
                if producer.add(event.user_id.encode(), codec.encode(event)):
                    await producer.send_full()
                    done(min(number, process.applied()))
            await producer.flush()
            await _until_applied(process, len(past), done)
        caught_up_s = time.perf_counter() - begun
        lists_then = served.lists
        watched = _busiest(coming, 3)
        title = f"Live: {LIVE_EVENTS_PER_S} events a second"
        counts: Counter[int] = Counter()
        partition_of = producer.partition_of
        for event in past:
            counts[partition_of(event.user_id.encode())] += 1
        with view.watching(title, len(coming), watched, titles) as show:
            begun = time.perf_counter()
            number = 0
            for basket in _baskets(coming):
                quality.score(basket, served.newest.get(basket[0].user_id))
                for event in basket:
                    key = event.user_id.encode()
                    partition = partition_of(key)
                    served.sent(event.user_id, counts[partition])
                    counts[partition] += 1
                    producer.add(key, codec.encode(event))
                    quality.learn(event)
                    number += 1
                    ahead_s = begun + number / LIVE_EVENTS_PER_S - time.perf_counter()
                    if ahead_s > TICK_S:
                        await producer.flush()
                        await asyncio.sleep(ahead_s)
                show(number, served.newest)
            await producer.flush()
            deadline = time.perf_counter() + DRAIN_TIMEOUT_S
            while served.unanswered and time.perf_counter() < deadline:
                process.check()
                await asyncio.sleep(0.02)
            show(number, served.newest)
            live_s = time.perf_counter() - begun
    view.result(
        events=len(events), past=len(past), past_s=caught_up_s, live=len(coming), live_s=live_s,
        lists=served.lists, live_lists=served.lists - lists_then,
        unanswered=served.unanswered, freshness_ms=sorted(served.freshness_ms), quality=quality,
    )  # fmt: skip


def _baskets(events: Sequence[BehaviourEvent]) -> Iterator[list[BehaviourEvent]]:
    for _, basket in groupby(events, key=lambda event: (event.user_id, event.timestamp)):
        yield list(basket)


def _busiest(events: Sequence[BehaviourEvent], count: int) -> list[str]:
    """Users with the most baskets: their lists change while one looks."""
    baskets = Counter(basket[0].user_id for basket in _baskets(events))
    return [user for user, _ in baskets.most_common(count)]


class WorkerProcess:
    """`recsys worker` in a process of its own, as a user would start it."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._process = process
        self._base = f"http://127.0.0.1:{port}"
        self._log = log

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace").splitlines()[-3:]
            raise DemoError("the worker ended: " + " | ".join(tail))

    def ready(self) -> bool:
        """What /health/ready says."""
        try:
            with urllib.request.urlopen(f"{self._base}/health/ready", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def applied(self) -> int:
        """Behaviour events that took effect, from /metrics."""
        try:
            with urllib.request.urlopen(f"{self._base}/metrics", timeout=5) as answer:  # noqa: S310
                text = answer.read().decode()
        except (urllib.error.URLError, OSError):
            return 0
        for line in text.splitlines():
            if line.startswith("recsys_events_total") and ".behaviour." in line:
                return int(float(line.rsplit(" ", 1)[1]))
        return 0


@contextmanager
def worker(settings: Settings) -> Iterator[WorkerProcess]:
    """Start a worker on a free port, and stop it at the end."""
    folder = Path(settings.data_dir) / "demo" / settings.prefix
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "worker.log"
    (port,) = free_ports(1)
    # the classifier of the clothes, beside which bundles of one's own would lie
    shutil.copytree(SAMPLE / "bundles", folder / "bundles", dirs_exist_ok=True)
    environ = {
        **os.environ,
        "RECSYS_BROKER": settings.broker,
        "RECSYS_PREFIX": settings.prefix,
        "RECSYS_APPLICATION": settings.application,
        "RECSYS_PARTITIONS": str(settings.partitions),
        "RECSYS_ITEM_PARTITIONS": "1",
        "RECSYS_DATA_DIR": str(folder),
        "RECSYS_WORKER__WEB_PORT": str(port),
        "RECSYS_IMAGES__CLASSIFIER": "clothing-categories",
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "recsys", "worker"], env=environ, stdout=log, stderr=log
        )
    failed = False
    try:
        yield WorkerProcess(process, port, log_path)
    except DemoError:  # its log may tell more
        failed = True
        raise
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)


async def _until_ready(process: WorkerProcess) -> None:
    deadline = time.perf_counter() + READY_TIMEOUT_S
    while not await asyncio.to_thread(process.ready):
        process.check()
        if time.perf_counter() > deadline:
            raise DemoError(f"the worker was not ready after {READY_TIMEOUT_S:.0f} s")
        await asyncio.sleep(0.1)


async def _until_applied(process: WorkerProcess, count: int, done: Any) -> None:
    idle_since, before = time.perf_counter(), -1
    while (applied := await asyncio.to_thread(process.applied)) < count:
        process.check()
        if applied != before:
            idle_since, before = time.perf_counter(), applied
        elif time.perf_counter() - idle_since > DRAIN_TIMEOUT_S:
            raise DemoError(f"the worker stopped at {applied:,} of {count:,} events")
        done(applied)
        await asyncio.sleep(0.2)
    done(count)
