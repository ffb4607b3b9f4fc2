"""Requests of Kafka's second version of transactions (KIP-890), which aiokafka does not speak.

Partitions and groups join a transaction by being written to, so that two requests a transaction
fall away, and each end hands out the epoch of the next one. Layouts are those of Kafka's message
definitions; all are flexible versions (KIP-482).
"""

from collections.abc import Mapping, Sized
from io import BytesIO
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

NO_TAGS: dict[int, bytes] = {}
FINALIZED_FEATURES = 2  # the tag in an answer about versions
FEATURE = "transaction.version"

_text = CompactString("utf-8")
_tags = ("tags", TaggedFields)
_no_tags = TaggedFields.encode(NO_TAGS)
_FEATURES = CompactArray(("name", _text), ("most", Int16), ("least", Int16), _tags)


def _count(held: Sized) -> bytes:
    return bytes(UnsignedVarInt32.encode(len(held) + 1))


class _VersionsResponse(Response):  # type: ignore[misc]
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("versions", CompactArray(("key", Int16), ("least", Int16), ("most", Int16), _tags)),
        ("throttle_time_ms", Int32),
        _tags,
    )


class Versions(RequestStruct):  # type: ignore[misc]
    """Which versions and features a broker has. Answers may hold more, in tags."""

    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _VersionsResponse
    SCHEMA = Schema(("software", _text), ("software_version", _text), _tags)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        """Old brokers must be able to answer it, so its header alone stays as it was."""
        return ResponseHeader_v0.decode(read_buffer)


class _ProduceResponse(Response):  # type: ignore[misc]
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(
                ("partition", Int32),
                ("error_code", Int16),
                ("offset", Int64),
                ("append_time_ms", Int64),
                ("log_start", Int64),
                ("bad_records", CompactArray(("place", Int32), ("message", _text), _tags)),
                ("message", _text),
                _tags,
            )),
            _tags,
        )),
        ("throttle_time_ms", Int32),
        _tags,
    )  # fmt: skip


class Produce(RequestStruct):  # type: ignore[misc]
    """A batch a partition; whoever writes to a partition has it in the transaction."""

    API_KEY = 0
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ProduceResponse
    SCHEMA = Schema(
        ("transactional_id", _text),
        ("acks", Int16),
        ("timeout_ms", Int32),
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(("partition", Int32), ("batch", CompactBytes), _tags)),
            _tags,
        )),
        _tags,
    )  # fmt: skip

    def encode(self) -> bytes:
        """As the layout says, but each batch is copied once: field by field six times."""
        parts = [_text.encode(self.transactional_id), Int16.encode(self.acks)]
        parts += [Int32.encode(self.timeout_ms), _count(self.topics)]
        for topic, partitions, _ in self.topics:
            parts += [_text.encode(topic), _count(partitions)]
            for partition, batch, _ in partitions:
                parts += [Int32.encode(partition), _count(batch), batch, _no_tags]
            parts.append(_no_tags)
        return b"".join([*parts, _no_tags])


class _OffsetsResponse(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _tags)),
            _tags,
        )),
        _tags,
    )  # fmt: skip


class Offsets(RequestStruct):  # type: ignore[misc]
    """Offsets of a group, in the transaction. Without membership: generation -1, member ""."""

    API_KEY = 28
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetsResponse
    SCHEMA = Schema(
        ("transactional_id", _text),
        ("group_id", _text),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _text),
        ("group_instance_id", _text),
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(
                ("partition", Int32),
                ("offset", Int64),
                ("leader_epoch", Int32),
                ("metadata", _text),
                _tags,
            )),
            _tags,
        )),
        _tags,
    )  # fmt: skip


class _EndResponse(Response):  # type: ignore[misc]
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _tags,
    )


class End(RequestStruct):  # type: ignore[misc]
    """Commit or abort; the answer has the producer's id and epoch of the next transaction."""

    API_KEY = 26
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _EndResponse
    SCHEMA = Schema(
        ("transactional_id", _text),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("committed", Boolean),
        _tags,
    )


class Ask:
    """A request of one of the layouts above, its fields in their order; tags are left empty.

    Stands for aiokafka's `Request`, which wants a class for each layout.
    """

    def __init__(self, layout: type[RequestStruct], *fields: Any) -> None:
        self._layout = layout
        self._fields = fields

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> RequestStruct:
        """The request for a broker that takes these versions (least, most) of each API.

        Raises:
            IncompatibleBrokerVersion: it does not take ours.
        """
        least, most = versions.get(self._layout.API_KEY, (0, -1))
        if not least <= self._layout.API_VERSION <= most:
            raise IncompatibleBrokerVersion(f"{self._layout.__name__}: {least} to {most}")
        return self._layout(*self._fields, NO_TAGS)


def transaction_version(answer: Response) -> int:
    """The version of transactions that the cluster has settled on, from an answer to `Versions`."""
    features = answer.tags.get(FINALIZED_FEATURES)
    if features is None:
        return 0
    levels = _FEATURES.decode(BytesIO(features)) or []
    return next((most for name, most, *_ in levels if name == FEATURE), 0)
