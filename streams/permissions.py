"""What a broker's authorizer must allow, and what of it the broker says is missing.

The broker itself tells: metadata and group descriptions carry the operations that we may do
(KIP-430), and for transactional ids a coordinator is refused.
"""

import asyncio
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from streams.admin import admin_client
from streams.connection import Connection

Resource = Literal["topic", "group", "transactional-id"]
Operation = Literal["READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"]
# Numbers of Kafka's AclOperation, ResourceType and PatternType.
OPERATIONS: dict[Operation, int] = {"READ": 3, "WRITE": 4, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10}
RESOURCES: dict[Resource, int] = {"topic": 2, "group": 3, "transactional-id": 5}
LITERAL, PREFIXED = 3, 4
COORDINATOR_TRIES, COORDINATOR_WAIT_S = 100, 0.2
_NOT_YET = (14, 15, 16)  # the coordinator is loading, has yet to be made, or moves
_TOPIC_REFUSED, _GROUP_REFUSED, _TRANSACTIONAL_ID_REFUSED = 29, 30, 53


@dataclass(frozen=True)
class Permission:
    """One rule: an operation on one resource, or on all whose names begin so."""

    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False

    @property
    def sentence(self) -> str:
        """The rule as a person says it.

        >>> Permission("topic", "recsys.", "DESCRIBE", prefixed=True).sentence
        'DESCRIBE on every topic whose name begins with recsys.'
        """
        if self.prefixed:
            return f"{self.operation} on every {self.resource} whose name begins with {self.name}"
        return f"{self.operation} on {self.resource} {self.name}"

    def command(self, principal: str) -> str:
        """The arguments of `kafka-acls.sh` that grant it."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        operation = {"DESCRIBE_CONFIGS": "DescribeConfigs"}.get(
            self.operation, self.operation.capitalize()
        )
        return (
            f"--add --allow-principal {shlex.quote(principal)} --operation {operation} "
            f"--{self.resource} {self.name}{pattern}"
        )


async def missing(
    connection: Connection, wanted: Iterable[Permission], topics: Sequence[str]
) -> list[Permission]:
    """Which of the rules the broker does not grant us. Raises AdminError.

    `topics` are the names that a prefixed rule for topics is tried on. A prefixed rule for
    transactional ids is tried on the first of them, `<name>0`.
    """
    rules = list(wanted)
    async with admin_client(connection) as client:
        on_topics = await _topic_operations(client, topics)
        lacking = []
        for rule in rules:
            if rule.resource == "topic":
                names = [n for n in topics if n.startswith(rule.name)]
                granted = [
                    on_topics.get(name, 0) >> OPERATIONS[rule.operation] & 1
                    for name in (names if rule.prefixed else [rule.name])
                ]
                allowed = all(granted)
            elif rule.resource == "group":
                operations = await _group_operations(client, rule.name)
                allowed = bool(operations >> OPERATIONS[rule.operation] & 1)
            else:
                allowed = await _may_transact(client, rule.name + "0" * rule.prefixed)
            if not allowed:
                lacking.append(rule)
    return lacking


async def _topic_operations(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Operations we may do, one bit each, by topic; a topic that is not there allows all."""
    answer = await client._send_request(_Topics(list(names)))
    found = {}
    for code, name, *_, operations in answer.topics:
        unseen = ~0 - (1 << OPERATIONS["DESCRIBE"])  # the rest is not told
        found[name] = unseen if code == _TOPIC_REFUSED else (operations if code == 0 else ~0)
    return found


async def _group_operations(client: AIOKafkaAdminClient, group_id: str) -> int:
    for _ in range(COORDINATOR_TRIES):
        coordinator = await _coordinator(client, group_id, 0)
        if coordinator.error_code == _GROUP_REFUSED:
            return 0
        request = _Groups([group_id])
        answer = await client._send_request_to_node(coordinator.coordinator_id, request)
        code, *_, operations = answer.groups[0]
        if code not in _NOT_YET:
            return 0 if code == _GROUP_REFUSED else int(operations)
        await asyncio.sleep(COORDINATOR_WAIT_S)
    raise for_code(code)(f"no coordinator for {group_id}")


async def _may_transact(client: AIOKafkaAdminClient, transactional_id: str) -> bool:
    answer = await _coordinator(client, transactional_id, 1)
    return int(answer.error_code) != _TRANSACTIONAL_ID_REFUSED


async def _coordinator(client: AIOKafkaAdminClient, name: str, kind: int) -> Any:
    """Who coordinates a group (kind 0) or a transactional id (1); a new broker takes a moment."""
    for _ in range(COORDINATOR_TRIES):
        answer = await client._send_request(FindCoordinatorRequest(name, kind))
        if answer.error_code not in _NOT_YET:
            return answer
        await asyncio.sleep(COORDINATOR_WAIT_S)
    raise for_code(answer.error_code)(f"no coordinator for {name}")


# aiokafka 0.14 speaks metadata up to version 5; the operations come with version 8.


class _TopicsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32), ("host", String("utf-8")), ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16), ("topic", String("utf-8")), ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16), ("partition", Int32), ("leader", Int32),
                        ("leader_epoch", Int32), ("replicas", Array(Int32)), ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )  # fmt: skip


class _TopicsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _Topics(Request[_TopicsRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._names, False, False, True)


class _GroupsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3  # aiokafka's own names that of version 2
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class _Groups(Request[_GroupsRequest]):  # type: ignore[misc]
    API_KEY = 15

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._groups, True)
