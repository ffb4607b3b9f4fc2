"""Faust's consumer thread without the thread: who fetches runs on the loop that uses the records.

Waking a thread on another core takes some 30 to 50 us on a virtual machine, and two threads that
run Python wait for each other's interpreter: an answer went through both several times.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async

FETCH_WAIT_MS = 500
UNTAKEN_WAIT_MS = 20  # while fetched records wait to be taken
# What is there at once was fetched right after the last question; what came since is a fetch away.
AT_ONCE_S = 0.001
NEWER_S = 0.006
NO_GENERATION = -1  # where the group has put us out
ASK_AGAIN_S = 0.1


class _OnTheLoop:
    """What Mode starts in place of a thread."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._service._serve())
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def stop(self) -> None:
        """Its service is told, and has ended when Mode calls this."""


class PatientConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """Waits at the broker for what is to come only where nothing that came lies untaken.

    aiokafka has one fetch a broker under way. Where records were not taken for 100 ms, it fetches
    for the other partitions alone; if those are silent that fetch lasts as long as it may, and so
    long nothing is fetched for those that are not.
    """

    async def start(self) -> None:
        """Start, and choose the patience of each fetch from then on."""
        await super().start()
        fetcher, patience_ms = self._fetcher, self._fetcher._fetch_max_wait_ms
        actions = fetcher._get_actions_per_node

        def patient_actions(assignment: Any) -> Any:
            fetcher._fetch_max_wait_ms = UNTAKEN_WAIT_MS if fetcher._records else patience_ms
            return actions(assignment)

        fetcher._get_actions_per_node = patient_actions


class LoopConsumer(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """As Faust's consumer thread, but on the loop, and reading committed records only."""

    Worker = _OnTheLoop
    _fetches = 0

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, **kwargs)

    async def call_thread(
        self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """There is no thread to ask."""
        return await maybe_async(fun(*args, **kwargs))

    async def _gather_remaining_tasks(self) -> None:
        """Nothing: the loop's other tasks are not ours."""

    async def fetch(
        self, partitions: set[TP], wait_s: float, taken: int, expected: dict[TP, int]
    ) -> tuple[int, dict[Any, list[Any]]]:
        """Fetch, and number the answer. `taken` is the number of the last one that was used.

        A fetch moves the client's position even where a rebalance has made its answer useless:
        when one was not used, the partitions go back to what is `expected` of them.
        """
        consumer = self._ensure_consumer()
        if taken != self._fetches:
            for tp in consumer.assignment():
                if tp in expected:
                    consumer.seek(tp, expected[tp])
        self._fetches += 1
        begun = time.monotonic()
        fetched = await self._fetch_records(consumer, partitions, timeout=wait_s)
        if fetched and time.monotonic() - begun < AT_ONCE_S:
            newer = await self._fetch_records(consumer, partitions, timeout=NEWER_S)
            for tp, records in newer.items():
                fetched[tp] = [*fetched.get(tp, ()), *records]
        return self._fetches, fetched

    @property
    def member_id(self) -> str:
        """The name that the group knows us by; '' before it has given one."""
        return str(self._ensure_consumer()._coordinator.member_id)

    async def is_member(self) -> bool:
        """Ask the group's coordinator whether our membership still holds.

        One that cannot be reached, or is loading its groups, is asked again for a session's time.
        """
        coordinator = self._ensure_consumer()._coordinator
        until = time.monotonic() + self.app.conf.broker_session_timeout
        while time.monotonic() < until:
            with contextlib.suppress(KafkaError):
                if await coordinator._do_heartbeat():
                    return True
                if coordinator.generation == NO_GENERATION:  # the answer was no
                    return False
            await asyncio.sleep(ASK_AGAIN_S)
        return False

    def _create_worker_consumer(self, transport: driver.Transport) -> PatientConsumer:
        conf = self.app.conf
        self._assignor = self.app.assignor  # co-partitioned: lane p of every topic to one owner
        return PatientConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            **self.app.connection.options(),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            retry_backoff_ms=20,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )
