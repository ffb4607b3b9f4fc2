"""One transactional producer: everything that a lane writes leaves through it, or not at all."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import OffsetAndMetadata

from streams import crash_points
from streams.chunk import Position, Record
from streams.connection import Connection

RETRY_BACKOFF_MS = 5  # Kafka 4 asks older clients to retry while markers are written (decisions.md)
BATCH_BYTES_MAX = 1 << 20
REQUEST_BYTES_MAX = 16 << 20
REFUSALS = (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
NO_HEADERS: list[tuple[str, bytes]] = []


class LaneFencedError(Exception):
    """Another owner has taken the transactional id: nothing of ours will be written any more."""


class LaneRefusedError(Exception):
    """The broker does not allow what the lane must do: trying again would not help."""


class TransactionUncertainError(Exception):
    """The broker did not say whether the transaction took effect; the committed offsets will."""


class LaneProducer:
    """Transactions of one lane, one at a time.

    `start` fences whoever used the same `transactional_id` before, and ends its open transaction.
    """

    def __init__(
        self,
        connection: Connection,
        transactional_id: str,
        *,
        timeout_ms: int = 10_000,
    ) -> None:
        self.transactional_id = transactional_id
        self._producer = AIOKafkaProducer(
            **connection.options(),
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            request_timeout_ms=timeout_ms,
        )

    async def start(self) -> None:
        """Take the transactional id over. Raises KafkaError where the broker cannot be had."""
        await self._producer.start()

    async def stop(self) -> None:
        """Give the connection up; an open transaction is left to the next `start`."""
        await self._producer.stop()

    async def commit(
        self,
        writes: Mapping[Position, Sequence[Record]],
        offsets: Mapping[Position, int],
        group_id: str,
    ) -> dict[Position, int]:
        """Write everything and the group's offsets in one transaction.

        Returns, for each partition written to, the offset after our last record in it.
        Raises LaneFencedError, LaneRefusedError, or TransactionUncertainError when the outcome is
        not known.
        """
        try:
            try:
                return await self._commit(writes, offsets, group_id)
            except IllegalOperation as error:
                raise self._failed_already(error) from error
        except (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping) as error:
            raise LaneFencedError(
                f"{self.transactional_id} was taken over by another worker"
            ) from error
        except REFUSALS as error:
            raise LaneRefusedError(
                f"the broker does not allow a write of {self.transactional_id} "
                f"({', '.join(sorted({target.topic for target in writes}))}): {error}"
            ) from error
        except (TimeoutError, KafkaError, OSError) as error:
            raise TransactionUncertainError(f"{type(error).__name__}: {error}") from error

    def _failed_already(self, error: Exception) -> BaseException:
        """Why aiokafka takes no more: it notes an error of the transaction before we await it."""
        waiter = self._producer._txn_manager._transaction_waiter
        if waiter is None or not waiter.done() or waiter.cancelled():
            return error
        return waiter.exception() or error

    async def _commit(
        self,
        writes: Mapping[Position, Sequence[Record]],
        offsets: Mapping[Position, int],
        group_id: str,
    ) -> dict[Position, int]:
        producer = self._producer
        crash_points.reach("before-send")
        await producer.begin_transaction()
        sent: list[tuple[Position, int, asyncio.Future[Any]]] = []
        for target, records in writes.items():
            sent += await self._send(target, records)
        crash_points.reach("before-offsets")
        if offsets:
            await producer.send_offsets_to_transaction(
                {TopicPartition(*p): OffsetAndMetadata(o, "") for p, o in offsets.items()}, group_id
            )
        ends: dict[Position, int] = {}
        for target, count, future in sent:
            ends[target] = (await future).offset + count
        crash_points.reach("before-commit")
        await producer.commit_transaction()
        crash_points.reach("after-commit")
        return ends

    async def _send(
        self, target: Position, records: Sequence[Record]
    ) -> list[tuple[Position, int, asyncio.Future[Any]]]:
        """Append in batches: per-record sends cost more than all the rest (decisions.md)."""
        producer = self._producer
        sent = []
        batch, count = producer.create_batch(), 0
        for key, value, given, time_ms in records:
            headers = list(given) if given else NO_HEADERS
            if batch.append(key=key, value=value, timestamp=time_ms, headers=headers) is None:
                batch.close()
                future = await producer.send_batch(batch, target.topic, partition=target.partition)
                sent.append((target, count, future))
                batch, count = producer.create_batch(), 0
                batch.append(key=key, value=value, timestamp=time_ms, headers=headers)
            count += 1
        if count:
            batch.close()
            future = await producer.send_batch(batch, target.topic, partition=target.partition)
            sent.append((target, count, future))
        return sent
