"""The topics on a broker: make them, list them, and say where they differ from the registry."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.connection import Connection
from streams.topics import DAY_MS, TOMBSTONES_KEPT_MS, TOPICS, Keyed, Topic, dead_letters_of
from streams.unconnected import why

REQUEST_TIMEOUT_MS = 15_000
POLL_S = 0.1

_COMPACTION = {
    # Only closed segments are compacted: small and young ones keep a restore short.
    "segment.ms": str(60 * 60 * 1000),
    "segment.bytes": str(128 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.2",
    "max.compaction.lag.ms": str(DAY_MS),
    "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
}


class AdminError(Exception):
    """The broker refused, or could not be reached; the message says which, in a sentence."""


@dataclass(frozen=True)
class WantedTopic:
    """A topic as the registry and the settings want it."""

    name: str
    keyed: Keyed
    partitions: int
    replication: int
    configs: dict[str, str]
    about: str


@dataclass(frozen=True)
class FoundTopic:
    """A topic as the broker has it."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One thing that is not as wanted. An error stops a worker; a warning does not."""

    topic: str
    severity: Literal["error", "warning"]
    sentence: str


def wanted_topics(
    prefix: str, partitions: int, item_partitions: int, replication: int
) -> list[WantedTopic]:
    """Every topic of the registry with its dead letters, under a prefix."""
    wanted = []
    for topic in TOPICS:
        for each in (topic, dead_letters_of(topic)) if topic.dead_letters else (topic,):
            count = partitions if each.keyed == "user" else item_partitions
            configs = _configs(each, replication)
            wanted.append(
                WantedTopic(each.name(prefix), each.keyed, count, replication, configs, each.about)
            )
    return wanted


def _configs(topic: Topic, replication: int) -> dict[str, str]:
    configs = {
        "cleanup.policy": topic.cleanup,
        "max.message.bytes": str(topic.message_bytes_max),
    }
    if topic.retention_ms is not None:
        configs["retention.ms"] = str(topic.retention_ms)
    if topic.broker_time:
        configs["message.timestamp.type"] = "LogAppendTime"
    if topic.cleanup == "compact":
        configs |= _COMPACTION
    if replication >= 3:
        configs["min.insync.replicas"] = "2"
    return configs


@asynccontextmanager
async def admin_client(connection: Connection) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client. Raises AdminError where the broker cannot be reached."""
    client = AIOKafkaAdminClient(**connection.options(), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        await client.close()
        raise AdminError(f"no Kafka answers at {connection.bootstrap}: {why(error)}") from error
    try:
        yield client
    except (KafkaError, OSError) as error:
        raise AdminError(f"{connection.bootstrap} refused: {error}") from error
    finally:
        await client.close()


async def create_topics(connection: Connection, wanted: Sequence[WantedTopic]) -> list[str]:
    """Create those that are not there yet, and wait for them; return their names.

    Others are left as they are. Raises AdminError.
    """
    async with admin_client(connection) as client:
        await _until_controlled(client)
        response = await client.create_topics(
            [
                NewTopic(each.name, each.partitions, each.replication, topic_configs=each.configs)
                for each in wanted
            ]
        )
        created = []
        for name, code, *rest in response.topic_errors:
            error = for_code(code)
            if code == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                raise AdminError(f"{name} could not be created: {rest[0] or error.__name__}")
        await _until_led(client, [each.name for each in wanted])
    return created


async def _until_controlled(client: AIOKafkaAdminClient) -> None:
    """Wait until a controller is known: a broker that was silent names none for a moment."""
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_MS / 1000
    while (await client.describe_cluster())["controller_id"] < 0:
        if time.monotonic() > deadline_s:
            raise AdminError("the brokers know of no controller yet, so topics cannot be changed")
        await asyncio.sleep(POLL_S)


async def _until_led(client: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Wait until each partition has a leader: a topic is made before all of the cluster knows."""
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_MS / 1000
    while True:
        there = set(await client.list_topics()).intersection(names)
        if len(there) == len(names):
            described = await client.describe_topics(sorted(there))
            leaders = [part["leader"] for each in described for part in each["partitions"]]
            if all(each["partitions"] for each in described) and min(leaders) >= 0:
                return
        if time.monotonic() > deadline_s:
            raise AdminError("the topics were made, but not all of them have a leader yet")
        await asyncio.sleep(POLL_S)


async def delete_topics(connection: Connection, names: Sequence[str]) -> None:
    """Delete topics for good, with all that they hold."""
    async with admin_client(connection) as client:
        await _until_controlled(client)
        response = await client.delete_topics(list(names))
    for name, code in response.topic_error_codes:
        if code != 0:
            raise AdminError(f"{name} could not be deleted: {for_code(code).__name__}")


async def find_topics(connection: Connection, names: Sequence[str]) -> dict[str, FoundTopic]:
    """What the broker has of these topics, by name; those it does not have are absent."""
    async with admin_client(connection) as client:
        there = set(await client.list_topics()).intersection(names)
        if not there:
            return {}
        described = await client.describe_topics(sorted(there))
        configs = await _describe_configs(client, sorted(there))
    return {
        each["topic"]: FoundTopic(
            each["topic"],
            len(each["partitions"]),
            min(len(partition["replicas"]) for partition in each["partitions"]),
            configs[each["topic"]],
        )
        for each in described
        if each["partitions"]
    }


async def group_members(connection: Connection, group: str) -> int:
    """How many are in a consumer group now; 0 where there is no such group. Raises AdminError."""
    async with admin_client(connection) as client:
        (response,) = await client.describe_consumer_groups([group])
    code, *_, members = response.groups[0][:6]
    if code not in (errors.NoError.errno, errors.GroupIdNotFound.errno):
        raise AdminError(f"the group {group} could not be seen: {for_code(code).__name__}")
    return len(members)


async def _describe_configs(
    client: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, dict[str, str]] = {}
    for response in await client.describe_configs(resources):
        for _code, _message, _kind, name, entries in response.resources:
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


def differences(wanted: Sequence[WantedTopic], found: dict[str, FoundTopic]) -> list[Difference]:
    """Where what was found is not what is wanted, a sentence each; empty when all is well."""
    told = []
    for each in wanted:
        have = found.get(each.name)
        if have is None:
            told.append(
                Difference(each.name, "error", f"{each.name} is missing: recsys topics create")
            )
            continue
        if have.partitions != each.partitions:
            told.append(Difference(each.name, "error", _partition_sentence(each, have)))
        if have.replication < each.replication:
            told.append(
                Difference(
                    each.name, "warning",
                    f"{each.name} has {have.replication} replicas, {each.replication} are wanted",
                )
            )  # fmt: skip
        told += _config_differences(each, have)
    told += _lane_differences(wanted, found)
    return told


def _partition_sentence(wanted: WantedTopic, found: FoundTopic) -> str:
    setting = "partitions" if wanted.keyed == "user" else "item_partitions"
    return (
        f"{wanted.name} has {found.partitions} partitions, the setting {setting} says "
        f"{wanted.partitions}; the count is fixed once events are there"
    )


def _lane_differences(
    wanted: Sequence[WantedTopic], found: dict[str, FoundTopic]
) -> list[Difference]:
    differences = []
    for lanes in sorted({each.partitions for each in wanted if each.keyed == "user"}):
        counts: dict[int, str] = {}
        for each in wanted:
            if each.keyed == "user" and each.partitions == lanes and each.name in found:
                counts.setdefault(found[each.name].partitions, each.name)
        if len(counts) > 1:
            told = " and ".join(f"{name} has {count}" for count, name in counts.items())
            sentence = f"topics keyed by user must have one partition count: {told}"
            differences.append(Difference(next(iter(counts.values())), "error", sentence))
    return differences


def _config_differences(wanted: WantedTopic, found: FoundTopic) -> list[Difference]:
    told = []
    for name, value in wanted.configs.items():
        have = found.configs.get(name)
        if (
            have is None
            or have == value
            or (name == "max.message.bytes" and int(have) > int(value))
        ):
            continue
        lossy = name in {"cleanup.policy", "max.message.bytes"}
        told.append(
            Difference(
                wanted.name, "error" if lossy else "warning",
                f"{wanted.name} has {name}={have}, {value} is wanted",
            )
        )  # fmt: skip
    return told


def as_rows(wanted: Sequence[WantedTopic], found: dict[str, FoundTopic]) -> list[dict[str, Any]]:
    """One row a topic, for people and for machines; `exists` tells those that are there."""
    rows = []
    for each in wanted:
        have = found.get(each.name)
        rows.append(
            {
                "topic": each.name,
                "exists": have is not None,
                "partitions": have.partitions if have else each.partitions,
                "replication": have.replication if have else each.replication,
                "cleanup": each.configs["cleanup.policy"],
                "key": f"{each.keyed}_id",
                "about": each.about,
            }
        )
    return rows
