from dataclasses import replace

import pytest

from streams import admin, topics
from streams.admin import FoundTopic
from streams.connection import Connection

WANTED = admin.wanted_topics("shop", partitions=4, item_partitions=1, replication=1)


def found(**changes):
    """The wanted topics as a broker would have them, some changed."""
    there = {
        each.name: FoundTopic(each.name, each.partitions, each.replication, dict(each.configs))
        for each in WANTED
    }
    for suffix, change in changes.items():
        name = f"shop.{suffix.replace('_', '-')}.v1"
        there[name] = replace(there[name], **change)
    return there


def configs(suffix, **changes):
    there = found()[f"shop.{suffix}.v1"].configs
    return {"configs": there | {name.replace("_", "."): v for name, v in changes.items()}}


def sentences(there, severity):
    return [d.sentence for d in admin.differences(WANTED, there) if d.severity == severity]


def test_every_topic_and_its_dead_letters_are_wanted():
    names = {each.name for each in WANTED}
    assert {"shop.behaviour.v1", "shop.behaviour.v1.dlq", "shop.user-state.v1"} <= names
    assert len(names) == len(topics.TOPICS) + sum(topic.dead_letters for topic in topics.TOPICS)
    limits = {each.name: int(each.configs["max.message.bytes"]) for each in WANTED}
    for name in names:
        if name.endswith(".dlq"):
            assert limits[name] > limits[name.removesuffix(".dlq")]


def test_state_is_compacted_and_remembers_removals():
    (state,) = (each for each in WANTED if each.name == "shop.user-state.v1")
    assert state.configs["cleanup.policy"] == "compact"
    assert int(state.configs["delete.retention.ms"]) == admin.TOMBSTONES_KEPT_MS
    assert int(state.configs["segment.ms"]) < topics.DAY_MS


def test_what_workers_write_has_the_brokers_time_and_what_clients_write_has_theirs():
    """Kafka refuses records that are an hour ahead of it: no worker may stop for its clock."""
    broker_time = {e.name for e in WANTED if "message.timestamp.type" in e.configs}
    clients = {f"shop.{name}.v1" for name in (
        "behaviour", "requests", "image-uploads", "forget", "catalogue", "product-images",
    )}  # fmt: skip
    assert {each.name for each in WANTED} - broker_time == clients


def test_nothing_is_said_of_what_is_as_wanted():
    assert admin.differences(WANTED, found()) == []
    wider = found(behaviour=configs("behaviour", max_message_bytes="99999999"))
    assert admin.differences(WANTED, wider) == []


def test_a_missing_topic_is_an_error_that_names_the_remedy():
    there = found()
    del there["shop.requests.v1"]
    assert sentences(there, "error") == ["shop.requests.v1 is missing: recsys topics create"]


def test_partition_counts_must_agree_with_each_other_and_with_the_setting():
    errors = sentences(found(requests={"partitions": 6}), "error")
    assert "shop.requests.v1 has 6 partitions, the setting partitions says 4" in errors[0]
    assert errors[1] == (
        "topics keyed by user must have one partition count: "
        "shop.behaviour.v1 has 4 and shop.requests.v1 has 6"
    )
    (error,) = sentences(found(catalogue={"partitions": 3}), "error")
    assert "the setting item_partitions says 1" in error


@pytest.mark.parametrize(
    ("suffix", "change", "severity"),
    [
        ("user-state", {"cleanup_policy": "delete"}, "error"),
        ("behaviour", {"max_message_bytes": "1000"}, "error"),
        ("behaviour", {"retention_ms": "5"}, "warning"),
        ("user-state", {"segment_ms": "604800000"}, "warning"),
    ],
)
def test_a_config_that_loses_data_is_an_error_and_others_are_warnings(suffix, change, severity):
    there = found(**{suffix.replace("-", "_"): configs(suffix, **change)})
    (sentence,) = sentences(there, severity)
    (name,) = change
    assert f"{name.replace('_', '.')}={change[name]}" in sentence


def test_fewer_replicas_are_a_warning():
    three = admin.wanted_topics("shop", 4, 1, replication=3)
    told = admin.differences(three, found())
    assert {d.severity for d in told} == {"warning"}
    assert all(each.configs["min.insync.replicas"] == "2" for each in three)


async def test_no_broker_is_said_in_a_sentence():
    with pytest.raises(admin.AdminError, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        await admin.find_topics(Connection("127.0.0.1:1"), ["a"])
