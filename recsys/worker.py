"""The worker process: joins wire and maths by role, watches over them, and ends cleanly.

tail (products, item state) ─▶ ItemState, Catalogue ─▶ Pipeline ─▶ UserLanes, ItemLanes
"""

import asyncio
import errno
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from recsys import acls
from recsys.catalogue import Catalogue
from recsys.factors import Factors, Refit
from recsys.forgotten import Forgotten
from recsys.item_lanes import ItemLanes
from recsys.item_state import ItemState
from recsys.mirror import Mirror
from recsys.pages import add_pages
from recsys.pipeline import Pipeline, default_models
from recsys.pipeline_settings import pipeline_config, rules_of
from recsys.refit import Refits
from recsys.settings import MAIN, Settings, SettingsError, variable_of
from recsys.snapshots import StateSnapshots
from recsys.switches import Control
from recsys.tracing import Tracer, open_tracer
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import user_lanes_config
from recsys.vectors import ProductVectors
from recsys.wanted import live_partitions, mirrors, wanted_topics
from recsys.warm_up import practise
from streams import admin, codec, cpus, interpreter, permissions, topics, unconnected
from streams.compute import Compute
from streams.lane_config import LaneConfig
from streams.tail import Tail
from streams.transaction import NOT_ALLOWED
from streams.worker import GroupConfig, RoleWorker

if TYPE_CHECKING:
    from recsys.image_reader import ImageReader

log = structlog.get_logger(__name__)

ITEM_ROUNDS_PER_S = 10.0  # what is folded in together; commits are fewer (item_lanes)
STOP_TIMEOUT_S = 9.0  # a broker that is gone must not hold the end up: under ten seconds in all
UNBINDABLE = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
ROLES = ("behaviour", "items", "images")


class WorkerFailedError(Exception):
    """The worker cannot go on; the message is for its operator."""


class Worker:
    """One process with its roles, from `start` to `stop`."""

    def __init__(self, settings: Settings, roles: Sequence[str]) -> None:
        self.settings = settings
        self.roles = tuple(roles)
        self.connection = settings.connection()
        self.items = ItemState(default_models())
        self.catalogue = Catalogue(self.items)
        pictures = settings.images
        self.vectors = ProductVectors(self.items, pictures.encoder_id, pictures.same_product_cosine)
        threads = min(settings.worker.list_threads, cpus.usable())
        config = replace(pipeline_config(settings), threads=threads)
        self.pipeline = Pipeline(config, self.items, self.catalogue, self.vectors)
        self.pipeline.rules = rules_of(settings)
        self.factors = Factors()
        self.forgotten = Forgotten(settings.events.future_ms_max)
        self.control = Control()
        self._refit: Refit | None = None
        self.refits = Refits(settings)
        self.tracer = tracer_of(settings)
        self.compute = Compute(thread=True)
        self.tail = Tail(self.connection, self._loaders(), self.compute)
        self.live_partitions = settings.partitions
        self.users: UserLanes | None = None
        self.image_reader: ImageReader | None = None
        self.workers: list[RoleWorker[Any]] = []
        self.started_at = time.monotonic()
        self.tail_ready = False

    # -- what every worker reads whole

    def _loaders(self) -> dict[str, Callable[[list[ConsumerRecord]], None]]:
        prefix = self.settings.prefix
        return {
            topics.CATALOGUE.name(prefix): self._load_products,
            topics.ITEM_STATE.name(self.settings.own_prefix): self._load_items,
            topics.ITEM_FACTORS.name(self.settings.own_prefix): self._load_factors,
            topics.ITEM_EMBEDDINGS.name(prefix): self._load_vectors,
            topics.FORGET.name(prefix): self.forgotten.load,
            topics.CONTROL.name(prefix): self.control.load,
        }

    def _load_products(self, records: list[ConsumerRecord]) -> None:
        products, good, _ = codec.decode_chunk(topics.CATALOGUE, records)
        for product, record in zip(products, good, strict=True):
            if product is None:
                self.catalogue.remove(record.key.decode())
            else:
                self.catalogue.put(product)

    def _load_items(self, records: list[ConsumerRecord]) -> None:
        self.items.load_records((record.key, record.value) for record in records)

    def _load_factors(self, records: list[ConsumerRecord]) -> None:
        self.factors.load_records((record.key, record.value) for record in records)
        if (whole := self.factors.take()) is not None:
            try:
                self._swap_factors(whole)
            except ValueError as error:  # another version's, while versions change: ours stay
                log.warning("factors.refused", version=whole.version, why=str(error))
                return
            self._refit = whole
            log.info("factors.swapped", version=whole.version, items=len(whole.keys))

    def _swap_factors(self, refit: Refit) -> None:
        """Products that nobody has touched take the vector that their picture maps to."""
        slots, pictures = self.vectors.items()
        keys, vectors = refit.with_pictures(self.items.ids.keys[slots], pictures)
        self.items.swap_factors(refit.version, keys, vectors, refit.weights)
        if refit.encoder == self.vectors.encoder_id:
            self.pipeline.mapping = refit.mapping

    def _load_vectors(self, records: list[ConsumerRecord]) -> None:
        found, good, _ = codec.decode_chunk(topics.ITEM_EMBEDDINGS, records)
        for embedding, record in zip(found, good, strict=True):
            if embedding is None:
                self.vectors.remove(record.key.decode())
            else:
                self.vectors.put(embedding)
        if self._refit is not None and self._refit.mapping is not None:
            self._swap_factors(self._refit)

    # -- life

    async def start(self) -> None:
        """Compile, read what is shared, join the groups. Raises WorkerFailedError."""
        await together(asyncio.to_thread(practise, self.pipeline), self._check_topics())
        await self.tail.start()
        await self.tail.catch_up()
        self.tail_ready = True
        for group, application, state_topic in self._applications():
            self.workers.append(self._role_worker(group, application, state_topic))
        try:
            await together(*(worker.start() for worker in self.workers))
        except OSError as error:
            named = isinstance(error, socket.gaierror)
            if error.filename is not None or not (named or error.errno in UNBINDABLE):
                raise
            mine = self.settings.worker
            raise WorkerFailedError(
                f"the web pages can not be served at {mine.web_host}:{mine.web_port} "
                f"(worker.web_host and worker.web_port): {error.strerror}"
            ) from error

    async def _check_topics(self) -> None:
        settings = self.settings
        if settings.generation != MAIN and "images" in self.roles:
            raise WorkerFailedError(
                "generations share what photos say, the images role reads them once: start "
                f"{settings.generation} with --role behaviour --role items"
            )
        try:
            self.live_partitions = await live_partitions(settings)
            wanted = wanted_topics(settings, self.live_partitions)
            names = [each.name for each in wanted]
            rules = acls.permissions(settings, self.roles, self.live_partitions)
            lacking = await permissions.missing(self.connection, rules, names)
            found = await admin.find_topics(self.connection, names)
        except admin.AdminError as error:
            raise WorkerFailedError(str(error)) from error
        if lacking:
            raise WorkerFailedError(
                f"the broker does not allow {' or '.join(rule.sentence for rule in lacking)}: "
                "recsys topics acls lists what a worker needs"
            )
        for difference in admin.differences(wanted, found):
            if difference.severity == "error":
                raise WorkerFailedError(difference.sentence)
            log.warning("topic.differs", sentence=difference.sentence)

    def _applications(self) -> Iterator[tuple[str, Any, topics.Topic | None]]:
        """What each role runs: the name of its group, the application, and its state topic."""
        settings = self.settings
        if "behaviour" in self.roles:
            if mirrors(settings, self.live_partitions):
                mirror = Mirror(settings.prefix, settings.own_prefix, settings.partitions)
                yield "mirror", mirror, None
            config = user_lanes_config(settings, self.live_partitions)
            self.users = UserLanes(
                self.pipeline, config, self.forgotten, self.control, self.tracer, self.compute
            )
            yield "behaviour", self.users, topics.USER_STATE
        if "items" in self.roles:
            items = ItemLanes(
                self.pipeline, self.tail, self.refits, settings.prefix, settings.own_prefix,
                self._is_live, settings.state.item_ttl_days,
            )  # fmt: skip
            yield "items", items, topics.ITEM_STATE
        if "images" in self.roles:
            from recsys.image_lanes import ImageLanes  # it needs Pillow

            self.image_reader = image_reader(settings)
            lanes = partial(ImageLanes, self.image_reader, settings.prefix)
            ahead_ms = settings.events.future_ms_max
            yield "uploads", lanes(uploads=True, future_ms_max=ahead_ms), None
            yield "pictures", lanes(uploads=False), None

    def _role_worker(
        self, group_name: str, application: Any, state_topic: topics.Topic | None
    ) -> RoleWorker[Any]:
        settings, mine = self.settings, self.settings.worker
        snapshots = Path(settings.data_dir) / "snapshots"
        lanes = LaneConfig(
            connection=self.connection,
            group_id=f"{settings.own_application}-{group_name}",
            topics=application.inputs,
            urgent=getattr(application, "urgent", frozenset()),
            state_topic=state_topic.name(settings.own_prefix) if state_topic else None,
            notes_positions=state_topic is not None,
            snapshot_dir=snapshots if state_topic is topics.USER_STATE else None,
            snapshot_interval_s=mine.snapshot_interval_s,
            transaction_timeout_ms=mine.transaction_timeout_ms,
            round_records_max=min(
                mine.chunk_events_max, getattr(application, "round_records_max", sys.maxsize)
            ),
            rounds_per_s_max=ITEM_ROUNDS_PER_S if state_topic is topics.ITEM_STATE else 200.0,
            # What keeps no state has nothing to wait for behind the rounds of those that do.
            compute=self.compute if state_topic else Compute(),
        )
        group = GroupConfig(
            session_timeout_s=mine.session_timeout_ms / 1000,
            heartbeat_interval_s=mine.heartbeat_interval_ms / 1000,
            watchdog_s=mine.watchdog_s,
            web_host=mine.web_host,
            web_port=None if self.workers else mine.web_port or None,  # 0: no pages
            data_dir=Path(settings.data_dir),
        )
        worker = RoleWorker(lanes, group, application, StateSnapshots())
        if not self.workers:
            add_pages(worker.app, self)
        return worker

    async def stop(self) -> None:
        """Finish the rounds, write snapshots, leave the groups."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self.refits.stop()
        await self.tail.stop()
        await asyncio.to_thread(self.tracer.close)
        self.compute.close()
        self.pipeline.close()

    @property
    def ready(self) -> bool:
        """Assigned and restored, in every role."""
        return bool(self.workers) and self.tail_ready and all(w.ready for w in self.workers)

    def _is_live(self) -> bool:
        """Whether our generation writes the lists, after the last promotion."""
        return self.control.latest(self.settings.prefix) == self.settings.generation

    def lag_records(self) -> int:
        """Records that wait in all our partitions."""
        return sum(each.lag_records() for each in self.workers)

    async def until_ready(self) -> None:
        """Wait until `ready`. Raises WorkerFailedError where it will not be."""
        while not self.ready:
            self._raise_failure()
            await asyncio.sleep(0.05)

    async def until_failed(self) -> NoReturn:
        """Wait until this process cannot go on. Raises WorkerFailedError."""
        while True:
            self._raise_failure()
            await asyncio.sleep(0.2)

    def _raise_failure(self) -> None:
        if (failure := self.failure()) is not None:
            told = str(failure)
            if isinstance(failure, NOT_ALLOWED):
                told = f"the broker does not allow what this worker does: {told}"
            raise WorkerFailedError(told) from failure

    def failure(self) -> BaseException | None:
        """Why this process cannot go on, if so."""
        for worker in self.workers:
            if worker.failure.done():
                return worker.failure.result()
        timeout_s = self.settings.worker.broker_timeout_s
        if self.tail.silent_s > timeout_s:
            return WorkerFailedError(
                f"no broker answered for {timeout_s:g} s (worker.broker_timeout_s): "
                f"{self.connection.bootstrap}: {unconnected.why(TimeoutError('silence'))}"
            )
        return self.tail.failed


def tracer_of(settings: Settings) -> Tracer:
    """Where spans go. Raises WorkerFailedError."""
    try:
        return open_tracer(settings.worker.trace_endpoint)
    except ImportError as error:
        raise WorkerFailedError(f"worker.trace_endpoint needs recsys[tracing]: {error}") from error


def image_reader(settings: Settings) -> "ImageReader":
    """The encoder, loaded where a role needs it. Raises WorkerFailedError."""
    from models import trained  # only this role needs its libraries
    from models.image import ImageLimits
    from recsys.image_reader import ImageReader

    mine, bundles = settings.images, Path(settings.data_dir) / "bundles"
    try:
        loaded = trained.load_encoder(mine.encoder, Path(settings.data_dir) / "encoders", bundles)
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise WorkerFailedError(f"images.encoder: {error}") from error
    if loaded.id != mine.encoder_id:
        raise WorkerFailedError(
            f"images.encoder_id is {mine.encoder_id}, but {mine.encoder} is {loaded.id}"
        )
    limits = ImageLimits(bytes_max=mine.bytes_max, pixels_max=mine.pixels_max)
    classifier = None
    if mine.classifier:
        try:
            classifier = trained.WatchedClassifier(mine.classifier, bundles, loaded.trunk_id)
        except (LookupError, OSError, ValueError, TypeError) as error:
            raise WorkerFailedError(f"images.classifier: {error}") from error
    return ImageReader(loaded, classifier, limits, mine.batch_size)


async def main(settings: Settings, roles: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT (0), or until something fails for good (1)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        worker = Worker(settings, roles)
    except WorkerFailedError as error:
        log.error("worker.failed", error=str(error))
        return 1
    try:
        await first(stop.wait(), worker.until_failed(), serve(worker))
    except (WorkerFailedError, KafkaError, OSError) as error:
        log.error("worker.failed", error=str(error) or repr(error))
        return 1
    finally:
        try:
            await asyncio.wait_for(worker.stop(), STOP_TIMEOUT_S)
        except TimeoutError:
            log.error("worker.stop_gave_up", seconds=STOP_TIMEOUT_S)
        log.info("worker.stopped")
    return 0


async def serve(worker: Worker) -> None:
    """Start, say when it is ready, and go on until cancelled."""
    await worker.start()
    await worker.until_ready()
    interpreter.settle()
    seconds = round(time.monotonic() - worker.started_at, 3)
    log.info("worker.ready", roles=list(worker.roles), seconds=seconds)
    await asyncio.Future()  # until cancelled


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them ends, and end the others; an error of any is raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
    for task in done:
        task.result()


async def together(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for all of them; where one fails the others are ended, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for wait in waits:
                group.create_task(wait)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


def run(settings: Settings, roles: Sequence[str]) -> int:
    """Run a worker in this process; the exit code."""
    configure_logging()
    keep_to(settings)
    interpreter.tune()
    return asyncio.run(main(settings, roles))


def keep_to(settings: Settings) -> None:
    """Run on the CPUs that the settings name. Raises SettingsError."""
    try:
        cpus.run_on(settings.worker.cpus)
    except cpus.CpusError as error:
        raise SettingsError(f"worker.cpus ({variable_of('worker.cpus')}): {error}") from None


def configure_logging() -> None:
    """Events with keys, one a line, on standard error; the libraries' own from warnings up."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("aiokafka.producer.sender").addFilter(
        lambda record: "NotEnoughReplicasError" not in record.getMessage()  # decisions.md
    )
    logging.disable(logging.DEBUG)  # Faust and aiokafka format debug lines nobody reads
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
