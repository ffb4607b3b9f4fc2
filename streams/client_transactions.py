"""Transactions by aiokafka, which speaks their first version: the default, on any cluster."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation
from aiokafka.structs import OffsetAndMetadata

from streams import crash_points
from streams.chunk import Position, Record
from streams.connection import Connection
from streams.direct_transactions import BATCH_BYTES_MAX, NO_HEADERS, REQUEST_BYTES_MAX

RETRY_BACKOFF_MS = 5  # Kafka 4 asks older clients to retry while markers are written (decisions.md)


class ClientTransactions:
    """Transactions of one transactional id."""

    def __init__(self, connection: Connection, transactional_id: str, timeout_ms: int) -> None:
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
        """Take the transactional id over: who had it is fenced, what they left open is ended."""
        await self._producer.start()

    async def stop(self) -> None:
        """Give the connection up; what is open stays so until somebody takes the id over."""
        await self._producer.stop()

    async def commit(
        self,
        writes: Mapping[Position, Sequence[Record]],
        offsets: Mapping[Position, int],
        group_id: str,
    ) -> dict[Position, int]:
        """One transaction; returns where each partition's records end. Raises KafkaError."""
        try:
            return await self._commit(writes, offsets, group_id)
        except IllegalOperation as error:
            raise self._failed_already(error) from error

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
        crash_points.reach("before-send")
        sent = await self._send_all(writes)
        crash_points.reach("before-offsets")
        if offsets:
            await self._producer.send_offsets_to_transaction(
                {TopicPartition(*p): OffsetAndMetadata(o, "") for p, o in offsets.items()}, group_id
            )
        ends: dict[Position, int] = {}
        for target, count, future in sent:
            ends[target] = (await future).offset + count
        crash_points.reach("before-commit")
        await self._producer.commit_transaction()
        crash_points.reach("after-commit")
        return ends

    async def _send_all(
        self, writes: Mapping[Position, Sequence[Record]]
    ) -> list[tuple[Position, int, asyncio.Future[Any]]]:
        await self._producer.begin_transaction()
        sent: list[tuple[Position, int, asyncio.Future[Any]]] = []
        for target, records in writes.items():
            sent += await self._send(target, records)
        return sent

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
