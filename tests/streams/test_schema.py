import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from streams import codec, events, schema, topics
from streams.topics import TOPICS
from tests.records import NOW_MS, body, record

DOCS = Path(__file__).parents[2] / "docs"
TYPED = [topic for topic in TOPICS if topic.struct is not None]
JSON = [topic for topic in TYPED if topic.encoding == "json"]


def validator(topic):
    document = schema.message_schemas()[topic.suffix]
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(
        document, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def test_the_documents_in_docs_are_up_to_date(tmp_path):
    written = {path.relative_to(tmp_path): path for path in schema.write(tmp_path)}
    kept = {p.relative_to(DOCS) for p in (*DOCS.glob("schema/*.json"), DOCS / "asyncapi.json")}
    assert kept == set(written), "write them anew with: recsys schema docs"
    for name, path in written.items():
        assert (DOCS / name).read_bytes() == path.read_bytes(), f"{name}: recsys schema docs"


@pytest.mark.parametrize("topic", TYPED, ids=lambda topic: topic.suffix)
def test_every_example_is_valid_by_schema_and_by_codec(topic):
    examples = schema.EXAMPLES[topic.struct]
    assert examples
    for example in examples:
        key = getattr(example, f"{topic.keyed}_id").encode()
        read = codec.decode(topic, record(codec.encode(example), key=key))
        assert read == example
        validator(topic).validate(msgspec.to_builtins(example))


@pytest.mark.parametrize(
    "changes",
    [{"item_id": None}, {"item_id": ""}, {"item_id": "a\0"}, {"type": "buy"}, {"value": -1},
     {"timestamp": 5}, {"timestamp": 1.5}, {"user_id": 5}, {"context": {"a": [1]}}],
)  # fmt: skip
def test_what_the_codec_refuses_the_schema_refuses(changes):
    value = body(**changes)
    with pytest.raises(codec.DecodeError):
        codec.decode(topics.BEHAVIOUR, record(value))
    with pytest.raises(jsonschema.ValidationError):
        validator(topics.BEHAVIOUR).validate(json.loads(value))


def test_asyncapi_has_every_topic_and_every_reference_leads_somewhere():
    document = schema.asyncapi("shop", partitions=6, item_partitions=2)
    addresses = {channel["address"]: channel for channel in document["channels"].values()}
    expected = {topic.name("shop") for topic in TOPICS}
    expected |= {topics.dead_letter_name(t.name("shop")) for t in TOPICS if t.dead_letters}
    assert set(addresses) == expected
    assert addresses["shop.behaviour.v1"]["bindings"]["kafka"]["partitions"] == 6
    assert addresses["shop.catalogue.v1.dlq"]["bindings"]["kafka"]["partitions"] == 2

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                target = document
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(document)


def test_every_header_of_the_contract_is_documented():
    names = {value for name, value in vars(events).items() if name.startswith("HEADER_")}
    text = json.dumps(schema.asyncapi())
    assert all(f'"{name}"' in text for name in names)
    assert all(reason in text for reason in codec.REASONS)
    dead = schema.asyncapi()["components"]["messages"]["dead-letter"]["headers"]
    assert {name for name in names if "-dlq-" in name} <= set(dead["properties"])


def test_requests_and_events_show_both_kinds_of_time():
    check = validator(topics.BEHAVIOUR)
    check.validate(json.loads(body(timestamp="2010-12-01T08:26:00Z")))
    check.validate(json.loads(body(timestamp=NOW_MS)))
