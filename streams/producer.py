"""Records into one topic, fast: batches by partition, each acknowledged, none twice.

aiokafka's `send` costs a future and a task a record; here records are appended to one open batch a
partition, and whole batches are sent. Shared by `produce`, `replay` and the demo.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, cast

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.connection import Connection
from streams.partition import partition_of
from streams.topics import how_to_create
from streams.unconnected import why

BATCH_BYTES = 256 * 1024
REQUEST_BYTES_MAX = 16 * 1024 * 1024
BATCHES_IN_FLIGHT_MAX = 64
RETRY_BACKOFF_MS = 20
PATIENCE_S = 120.0
STOP_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0  # a refused OAUTHBEARER token aiokafka does not see: it would ask forever
_NO_HEADERS: list[tuple[str, bytes]] = []


class ProduceError(Exception):
    """The broker did not take the records; the message says why, in a sentence."""


class BatchProducer:
    """An idempotent producer of one topic: per partition, records land in the order of `add`.

    >>> async def fill(connection, records):
    ...     async with BatchProducer(connection, "recsys.behaviour.v1") as producer:
    ...         for key, value in records:
    ...             if producer.add(key, value):
    ...                 await producer.send_full()
    """

    def __init__(self, connection: Connection, topic: str, patience_s: float = PATIENCE_S) -> None:
        self.topic = topic
        self.patience_s = patience_s
        self.acknowledged = 0
        self.partitions = 0
        self._producer = AIOKafkaProducer(
            **connection.options(),
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES_MAX,
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )
        self._bootstrap = connection.bootstrap
        self._open: dict[int, Any] = {}
        self._full: deque[tuple[int, Any]] = deque()
        self._in_flight: deque[asyncio.Future[Any]] = deque()
        self._counts: deque[int] = deque()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._stop()

    async def start(self) -> None:
        """Connect and learn the partitions. Raises ProduceError."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._producer.start()
                cluster = await self._producer.client.fetch_all_metadata()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            told = "it took too long" if isinstance(error, TimeoutError) else why(error)
            raise ProduceError(f"no Kafka answers at {self._bootstrap}: {told}") from error
        self.partitions = len(cluster.partitions_for_topic(self.topic) or ())
        if not self.partitions:
            await self._producer.stop()
            raise ProduceError(f"there is no topic {self.topic}: {how_to_create(self.topic)}")

    def partition_of(self, key: bytes) -> int:
        """Where `add` puts a key."""
        return partition_of(key, self.partitions)

    def add(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int | None = None,
    ) -> bool:
        """Append a record to its key's partition; whether a batch is full: then `send_full`.

        A record without a key goes to partition 0. Without a timestamp it gets the time of now.
        """
        partition = partition_of(key, self.partitions) if key is not None else 0
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = self._producer.create_batch()
        record = {
            "key": key,
            "value": value,
            "timestamp": timestamp_ms,
            "headers": list(headers) if headers else _NO_HEADERS,
        }
        if batch.append(**record) is None:
            self._full.append((partition, batch))
            batch = self._open[partition] = self._producer.create_batch()
            batch.append(**record)
        return bool(self._full)

    async def send_full(self) -> None:
        """Send the full batches; waits where many are on their way. Raises ProduceError."""
        while self._full:
            await self._send(*self._full[0])

    async def flush(self) -> None:
        """Send everything, and wait until all of it is acknowledged. Raises ProduceError.

        What is cancelled in it, or in `send_full`, loses nothing: it may be called again.
        """
        self._full += self._open.items()
        self._open = {}
        await self.send_full()
        await self._settle(0)

    async def _send(self, partition: int, batch: Any) -> None:
        batch.close()
        try:
            async with asyncio.timeout(self.patience_s):
                future = await self._hand_over(partition, batch)
        except TimeoutError as error:
            raise self._silence() from error
        except (KafkaError, OSError) as error:
            raise ProduceError(f"{self.topic} did not take the records: {error}") from error
        self._full.popleft()  # not before: whoever is cancelled while it waits sends it again
        self._in_flight.append(future)
        self._counts.append(batch.record_count())
        await self._settle(BATCHES_IN_FLIGHT_MAX)

    async def _hand_over(self, partition: int, batch: Any) -> asyncio.Future[Any]:
        while True:
            try:
                sent = await self._producer.send_batch(batch, self.topic, partition=partition)
            except KafkaTimeoutError:  # aiokafka's patience is not ours
                continue
            return cast("asyncio.Future[Any]", sent)

    async def _settle(self, left: int) -> None:
        while len(self._in_flight) > left:
            # Unlike a plain await this leaves the batch on its way where we are cancelled.
            done, _ = await asyncio.wait((self._in_flight[0],), timeout=self.patience_s)
            if not done:
                raise self._silence()
            try:
                self._in_flight[0].result()
            except (KafkaError, OSError) as error:
                raise ProduceError(f"{self.topic} did not take the records: {error}") from error
            self._in_flight.popleft()
            self.acknowledged += self._counts.popleft()

    def _silence(self) -> ProduceError:
        on_their_way = zip(self._in_flight, self._counts, strict=True)
        acknowledged = self.acknowledged + sum(count for each, count in on_their_way if each.done())
        return ProduceError(
            f"no broker answered for {self.patience_s:g} s (worker.broker_timeout_s); "
            f"{acknowledged} records were acknowledged"
        )

    async def _stop(self) -> None:
        """Without a broker aiokafka would go on trying to send what is left, without an end."""
        stopping = asyncio.ensure_future(self._producer.stop())
        await asyncio.wait((stopping,), timeout=STOP_TIMEOUT_S)
        if not stopping.done():
            stopping.cancel()
            sender = self._producer._sender.sender_task
            while not sender.done():  # told once it waits for its requests, told twice for none
                sender.cancel()
                await asyncio.wait((sender,), timeout=0.1)
            await self._producer.client.close()
