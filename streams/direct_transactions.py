"""Transactions of version 2 (KIP-890), by requests of our own: three, where aiokafka has five.

Batches, offsets, end. The end follows the answers of both; the offsets follow the batches at once
where one broker takes both, for it answers a connection's requests one after the other. A batch
that may have arrived is sent again as it was, and counts once by its sequence numbers; whatever
else goes wrong is for the caller, who takes the transactional id over again, which ends what is
open.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    ProducerFenced,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from streams import crash_points
from streams.chunk import Position, Record
from streams.transaction_requests import NO_TAGS, Ask, End, Offsets, Produce

Answer = TypeVar("Answer")

BATCH_BYTES_MAX = 1 << 20
REQUEST_BYTES_MAX = 16 << 20
RETRY_S = 0.005
# A broker that is still writing the marks of the transaction before lets the next one wait 20 ms.
MARKS_S = 0.003
FENCED = 90  # aiokafka does not know its number
ALL_REPLICAS = -1
NO_HEADERS: list[tuple[str, bytes]] = []
UNREACHED = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError)
MOVED = (NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records for one partition, as they go over the wire."""

    target: Position
    count: int
    body: bytearray


class Coordinator:
    """The broker that leads a transactional id or a group; looked up again when it has moved."""

    def __init__(self, client: AIOKafkaClient, kind: int, key: str) -> None:
        self.key = key
        self._client, self._kind = client, kind
        self._node: int | None = None

    async def ask(self, request: Any) -> Any:
        """Its answer, whatever it says."""
        if self._node is None:
            self._node = await self._client.coordinator_lookup(self._kind, self.key)
        try:
            return await self._client.send(self._node, request)
        except UNREACHED:
            self._lost()
            raise

    def is_node(self, node: int | None) -> bool:
        """Whether it is known to be that broker."""
        return node is not None and node == self._node

    def check(self, code: int) -> None:
        """Raise what the code of its answer means."""
        if code:
            error = error_of(code)
            if isinstance(error, MOVED):
                self._lost()
            raise error

    def _lost(self) -> None:
        """It is another one by now."""
        self._node = None
        self._client.force_metadata_update()


class DirectTransactions:
    """Transactions of one transactional id, over a client that has found its brokers."""

    def __init__(self, client: AIOKafkaClient, transactional_id: str, timeout_ms: int) -> None:
        self._client = client
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._coordinator = Coordinator(client, CoordinationType.TRANSACTION, transactional_id)
        self._groups: dict[str, Coordinator] = {}
        self._producer: tuple[int, int] = (-1, -1)  # id, and the epoch of the next transaction
        self._marked_at = 0.0  # when the marks of the last transaction should stand

    async def start(self) -> None:
        """Take the transactional id over: who had it is fenced, what they left open is ended."""

        async def take_over() -> None:
            request = InitProducerIdRequest(self._id, self._timeout_ms)
            answer = await self._coordinator.ask(request)
            self._coordinator.check(answer.error_code)
            self._producer = answer.producer_id, answer.producer_epoch

        await self._patiently(take_over)

    async def stop(self) -> None:
        """Close the connections; what is open stays so until somebody takes the id over."""
        await self._client.close()

    async def commit(
        self,
        writes: Mapping[Position, Sequence[Record]],
        offsets: Mapping[Position, int],
        group_id: str,
    ) -> dict[Position, int]:
        """One transaction; returns where each partition's records end. Raises KafkaError."""
        if (marks_s := self._marked_at - time.monotonic()) > 0.0:
            await asyncio.sleep(marks_s)
        crash_points.reach("before-send")
        ends = await self._send(writes, offsets, group_id)
        crash_points.reach("before-commit")
        await self._patiently(self._end)
        crash_points.reach("after-commit")
        return ends

    async def _send(
        self,
        writes: Mapping[Position, Sequence[Record]],
        offsets: Mapping[Position, int],
        group_id: str,
    ) -> dict[Position, int]:
        """Write records and offsets into the transaction; where each partition's records end."""
        if not offsets:
            return await self._send_all(writes)
        group = self._group(group_id)
        if not all(group.is_node(self._known_leader(target)) for target in writes):
            ends = await self._send_all(writes)
            await self._send_offsets(offsets, group)
            return ends
        sent, noted = await asyncio.gather(
            self._send_all(writes), self._send_offsets(offsets, group), return_exceptions=True
        )
        for answer in (sent, noted):
            if isinstance(answer, BaseException):
                raise answer
        return sent  # type: ignore[return-value]

    async def _send_all(self, writes: Mapping[Position, Sequence[Record]]) -> dict[Position, int]:
        """Write records into the transaction: a request takes one batch a partition."""
        ends: dict[Position, int] = {}
        waiting = [self._batches(target, records) for target, records in writes.items()]
        while wave := [batch for batches in waiting if (batch := next(batches, None))]:
            await self._patiently(lambda left=wave: self._produce(left, ends))  # type: ignore[misc]
        return ends

    def _batches(self, target: Position, records: Sequence[Record]) -> Iterator[Batch]:
        sequence = count = 0  # of the transaction, for each has an epoch of its own
        builder = self._builder(sequence)
        for key, value, headers, time_ms in records:
            given = list(headers) if headers else NO_HEADERS
            if builder.append(count, time_ms, key, value, given) is None:
                yield Batch(target, count, builder.build())
                sequence, count = sequence + count, 0
                builder = self._builder(sequence)
                builder.append(count, time_ms, key, value, given)
            count += 1
        if count:
            yield Batch(target, count, builder.build())

    def _builder(self, sequence: int) -> Any:
        producer_id, epoch = self._producer
        return DefaultRecordBatchBuilder(
            magic=2, compression_type=0, is_transactional=1, producer_id=producer_id,
            producer_epoch=epoch, base_sequence=sequence, batch_size=BATCH_BYTES_MAX,
        )  # fmt: skip

    async def _produce(self, left: list[Batch], ends: dict[Position, int]) -> None:
        """Send batches to their leaders; what was taken leaves the list."""
        requests = await self._by_leader(left)
        answers = await _answers([self._ask(leader, part) for leader, part in requests])
        errors: list[BaseException] = []
        for (_, part), answer in zip(requests, answers, strict=True):
            if isinstance(answer, BaseException):
                errors.append(answer)
                continue
            for batch in part:
                code, offset = answer[batch.target]
                if code:
                    errors.append(error_of(code))
                else:
                    ends[batch.target] = offset + batch.count
                    left.remove(batch)
        if errors:
            self._client.force_metadata_update()
            raise next((error for error in errors if not passes(error)), errors[0])

    async def _ask(self, leader: int, part: list[Batch]) -> dict[Position, tuple[int, int]]:
        """For each partition the error's code, and where the batch begins."""
        topics: dict[str, list[tuple[int, bytearray, Any]]] = {}
        for batch in part:
            rows = topics.setdefault(batch.target.topic, [])
            rows.append((batch.target.partition, batch.body, NO_TAGS))
        named = [(topic, rows, NO_TAGS) for topic, rows in topics.items()]
        request = Ask(Produce, self._id, ALL_REPLICAS, self._timeout_ms, named)
        answer = await self._client.send(leader, request)
        return {
            Position(topic, partition): (code, offset)
            for topic, partitions, _ in answer.topics
            for partition, code, offset, *_ in partitions
        }

    async def _by_leader(self, batches: Sequence[Batch]) -> list[tuple[int, list[Batch]]]:
        """Leaders with batches for them, in parts of REQUEST_BYTES_MAX, or one batch."""
        parts: list[tuple[int, list[Batch]]] = []
        open_parts: dict[int, list[Batch]] = {}
        room: dict[int, int] = {}
        for batch in batches:
            leader, size = await self._leader(batch.target), len(batch.body)
            if leader not in open_parts or room[leader] < size:
                open_parts[leader], room[leader] = [], REQUEST_BYTES_MAX
                parts.append((leader, open_parts[leader]))
            open_parts[leader].append(batch)
            room[leader] -= size
        return parts

    async def _leader(self, target: Position) -> int:
        leader = self._known_leader(target)
        if leader is None:
            await self._client.add_topic(target.topic)
            leader = self._known_leader(target)
        if leader is None or leader < 0:
            if target.topic in self._client.cluster.unauthorized_topics:
                raise TopicAuthorizationFailedError(target.topic)
            self._client.force_metadata_update()
            raise LeaderNotAvailableError(f"{target.topic}/{target.partition}")
        return int(leader)

    def _known_leader(self, target: Position) -> int | None:
        leader: int | None = self._client.cluster.leader_for_partition(TopicPartition(*target))
        return leader

    def _group(self, group_id: str) -> Coordinator:
        if group_id not in self._groups:
            self._groups[group_id] = Coordinator(self._client, CoordinationType.GROUP, group_id)
        return self._groups[group_id]

    async def _send_offsets(self, offsets: Mapping[Position, int], group: Coordinator) -> None:
        crash_points.reach("before-offsets")
        topics: dict[str, list[tuple[Any, ...]]] = {}
        for source, offset in offsets.items():
            topics.setdefault(source.topic, []).append((source.partition, offset, -1, "", NO_TAGS))
        named = [(topic, rows, NO_TAGS) for topic, rows in topics.items()]
        request = Ask(Offsets, self._id, group.key, *self._producer, -1, "", None, named)

        async def note() -> None:
            answer = await group.ask(request)
            for _, partitions, _ in answer.topics:
                for _, code, _ in partitions:
                    group.check(code)

        await self._patiently(note)

    async def _end(self) -> None:
        answer = await self._coordinator.ask(Ask(End, self._id, *self._producer, True))
        self._coordinator.check(answer.error_code)
        self._producer = answer.producer_id, answer.producer_epoch
        self._marked_at = time.monotonic() + MARKS_S

    async def _patiently(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try again what may pass, for as long as a transaction may take."""
        until = time.monotonic() + self._timeout_ms / 1000.0
        while True:
            try:
                return await attempt()
            except KafkaError as error:
                if not passes(error) or time.monotonic() > until:
                    raise
            await asyncio.sleep(RETRY_S)


async def _answers(requests: Sequence[Awaitable[Answer]]) -> list[Answer | BaseException]:
    """What each comes to; one alone needs no task."""
    if len(requests) != 1:
        return await asyncio.gather(*requests, return_exceptions=True)
    try:
        return [await requests[0]]
    except Exception as error:
        return [error]


def error_of(code: int) -> KafkaError:
    """What a broker's error code means."""
    return ProducerFenced() if code == FENCED else for_code(code)()


def passes(error: BaseException) -> bool:
    """Whether the same request may do better in a moment."""
    if isinstance(error, (*UNREACHED, ConcurrentTransactions)):
        return True
    return isinstance(error, KafkaError) and bool(error.retriable)
