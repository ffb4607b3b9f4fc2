"""One transactional producer: everything that a lane writes leaves through it, or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streams.chunk import Position, Record
from streams.client_transactions import RETRY_BACKOFF_MS, ClientTransactions
from streams.connection import Connection
from streams.direct_transactions import DirectTransactions
from streams.transaction_requests import Ask, Versions, transaction_version

NOT_ALLOWED = (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
REFUSALS = (
    *NOT_ALLOWED,
    MessageSizeTooLargeError,  # the same batch would be refused again
    RecordListTooLargeError,
)


class LaneFencedError(Exception):
    """Another owner has taken the transactional id: nothing of ours will be written any more."""


class LaneRefusedError(Exception):
    """The broker does not allow what the lane must do: trying again would not help."""


class TransactionUncertainError(Exception):
    """The broker did not say whether the transaction took effect; the committed offsets will."""


class Transactions(Protocol):
    """A way to speak of transactions to a broker. All raise KafkaError, OSError, TimeoutError."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def commit(
        self,
        writes: Mapping[Position, Sequence[Record]],
        offsets: Mapping[Position, int],
        group_id: str,
    ) -> dict[Position, int]: ...


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
        self._connection = connection
        self._timeout_ms = timeout_ms
        self._transactions: Transactions | None = None

    async def start(self) -> None:
        """Take the transactional id over. Raises KafkaError where the broker cannot be had."""
        direct = await self._direct() if self._connection.direct_transactions else None
        self._transactions = direct or ClientTransactions(
            self._connection, self.transactional_id, self._timeout_ms
        )
        await self._transactions.start()

    async def _direct(self) -> DirectTransactions | None:
        """Transactions of version 2, where the cluster has settled on them."""
        client = AIOKafkaClient(
            **self._connection.options(),
            client_id=self.transactional_id,
            request_timeout_ms=self._timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )
        try:
            await client.bootstrap()
            if await _speaks_version_2(client):
                return DirectTransactions(client, self.transactional_id, self._timeout_ms)
        except BaseException:
            await client.close()
            raise
        await client.close()
        return None

    async def stop(self) -> None:
        """Give the connection up; an open transaction is left to the next `start`."""
        if self._transactions is not None:
            await self._transactions.stop()

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
        assert self._transactions is not None, "start first"
        try:
            return await self._transactions.commit(writes, offsets, group_id)
        except (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping) as error:
            raise LaneFencedError(
                f"{self.transactional_id} was taken over by another worker"
            ) from error
        except REFUSALS as error:
            raise LaneRefusedError(
                f"the broker does not allow what {self.transactional_id} does (write "
                f"{_topics(writes)}; as group {group_id} read {_topics(offsets)}): {error}"
            ) from error
        except (TimeoutError, KafkaError, OSError) as error:
            raise TransactionUncertainError(f"{type(error).__name__}: {error}") from error


def _topics(positions: Iterable[Position]) -> str:
    return ", ".join(sorted({position.topic for position in positions})) or "nothing"


async def _speaks_version_2(client: AIOKafkaClient) -> bool:
    try:
        answer = await client.send(client.get_random_node(), Ask(Versions, "recsys", "0"))
    except IncompatibleBrokerVersion:
        return False
    return transaction_version(answer) >= 2
