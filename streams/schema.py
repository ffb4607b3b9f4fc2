"""The contract as documents: JSON Schema of every message, and one AsyncAPI 3.0 document.

Both follow from `events` and `topics`; `recsys schema` writes them, and a test keeps the copies
under `docs/` up to date.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from streams import codec, events, topics
from streams.events import (
    BehaviourEvent,
    CandidateFilter,
    ClassProbability,
    ForgetUser,
    ImageEmbedding,
    ItemEmbedding,
    Message,
    Product,
    RankedItem,
    RankedList,
    RecommendationRequest,
    Trigger,
)
from streams.topics import TOPICS, Topic

CONTRACT_VERSION = "1.0.0"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BINDING_VERSION = "0.5.0"
_NOON = 1_700_000_000_000

EXAMPLES: dict[type[Message], tuple[Message, ...]] = {
    BehaviourEvent: (
        BehaviourEvent(user_id="u17850", item_id="85123A", type="view", timestamp=_NOON),
        BehaviourEvent(
            user_id="u17850", item_id="85123A", type="purchase", timestamp=_NOON + 60_000,
            event_id="order-536365-1", value=6, session_id="s1", context={"page": "cart"},
        ),
    ),
    Product: (
        Product(
            item_id="85123A", title="White hanging heart T-light holder", category="Decoration",
            price=2.55, brand="Heart & Home", tags=["candle", "white"],
            url="https://shop.example/85123A", image="https://shop.example/85123A.jpg",
        ),
        Product(item_id="71053", title="White metal lantern", available=False),
    ),
    RecommendationRequest: (
        RecommendationRequest(user_id="u17850", request_id="r-1"),
        RecommendationRequest(
            user_id="u17850", request_id="r-2", k=5, context_items=["85123A"],
            filter=CandidateFilter(categories=["Decoration"], price_max=10, exclude=["71053"]),
        ),
    ),
    ForgetUser: (ForgetUser(user_id="u17850", timestamp=_NOON),),
    RankedList: (
        RankedList(
            list_id="6f1d3a0c5e7b9a24", user_id="u17850",
            trigger=Trigger(kind="event", topic="recsys.behaviour.v1", partition=3, offset=17),
            items=[
                RankedItem(
                    item_id="71053", score=0.82, rank=1, sources=["item-knn", "popular"],
                    reason="often bought with White hanging heart T-light holder",
                )
            ],
            model_version="online", variant="default", event_time=_NOON,
            produced_time=_NOON + 12,
        ),
    ),
    ImageEmbedding: (
        ImageEmbedding(
            user_id="u17850", upload_id="photo-1", timestamp=_NOON, encoder="colour-histogram-1",
            vector=bytes(8), classes=[ClassProbability(category="Decoration", probability=0.9)],
        ),
    ),
    ItemEmbedding: (
        ItemEmbedding(item_id="85123A", encoder="colour-histogram-1", vector=bytes(8)),
    ),
}  # fmt: skip

_COMMON_HEADERS = {
    events.HEADER_CONTENT_TYPE: "Media type of the body; the topic's own where it is absent.",
    events.HEADER_TRACEPARENT: "W3C trace context; kept on what is passed on and on dead letters.",
}
_PASSED_ON = {
    events.HEADER_ORIGIN: (
        "Set by us on a record whose key belongs to another lane and that was passed on to it: "
        "where it first lay, as topic/partition/offset. Producers never set it."
    )
}
_UPLOAD_HEADERS = {
    events.HEADER_UPLOAD_ID: "Id of the upload; topic/partition/offset where it is absent.",
    events.HEADER_TIMESTAMP: "When it was taken or sent: RFC 3339 or milliseconds; else the "
    "record's own time.",
    events.HEADER_K: "How many items the list is to have, 1 to 1000; 10 where it is absent.",
}
DEAD_LETTER_HEADERS = {
    events.HEADER_DLQ_TOPIC: "Topic where the record lay.",
    events.HEADER_DLQ_PARTITION: "Its partition, in decimal.",
    events.HEADER_DLQ_OFFSET: "Its offset, in decimal.",
    events.HEADER_DLQ_TIMESTAMP: "Its Kafka timestamp in milliseconds, in decimal.",
    events.HEADER_DLQ_REASON: "Why it was refused, one of: "
    + "; ".join(f"{reason} ({about})" for reason, about in codec.REASONS.items())
    + ".",
    events.HEADER_DLQ_FIELD: "The field at fault, e.g. timestamp, filter.items[], key or body.",
    events.HEADER_DLQ_MESSAGE: "The same in a sentence.",
}
_PROMOTED = {
    events.HEADER_PROMOTE: "Alone, on a record without key and body: from here on this generation "
    "writes the lists.",
}
_PLACED = {
    events.HEADER_PLACE: "Only on copies in a generation's mirror, the last of a copy's headers: "
    "where the record lies in the live topic, as partition/offset; with /untimed if it has no "
    "time.",
}
RESOLVED_HEADER = {
    events.HEADER_DLQ_RESOLVED: "Alone, on a record without key and body: the dead letter at this "
    "partition/offset was sent back by recsys replay --dlq.",
}


def headers_of(topic: Topic) -> dict[str, str]:
    """The headers a topic's records may carry, each with what it means."""
    headers = dict(_COMMON_HEADERS)
    if topic is topics.BEHAVIOUR:
        headers[events.HEADER_CLOUDEVENT_ID] = "Serves as event_id where the body has none."
    if topic is topics.IMAGE_UPLOADS:
        headers |= _UPLOAD_HEADERS
    if topic.keyed == "user" and topic.dead_letters:
        headers |= _PASSED_ON
    if topic in (topics.BEHAVIOUR, topics.REQUESTS, topics.IMAGE_EMBEDDINGS):
        headers |= _PROMOTED
    if topic in (topics.BEHAVIOUR, topics.REQUESTS, topics.IMAGE_EMBEDDINGS, topics.FORGET):
        headers |= _PLACED
    return headers


def message_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of each message, by the name of the topic that carries it."""
    return {
        topic.suffix: {
            "$schema": _DIALECT,
            **_described(msgspec.json.schema(topic.struct)),
            "examples": _examples(topic.struct),
        }
        for topic in TOPICS
        if topic.struct is not None
    }


def asyncapi(prefix: str = "recsys", partitions: int = 24, item_partitions: int = 1) -> Any:
    """The AsyncAPI 3.0 document of every topic under a prefix."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in TOPICS:
        name = topic.suffix.partition(".")[0]
        messages[name] = _message(topic)
        count = partitions if topic.keyed == "user" else item_partitions
        channels[name] = _channel(topic, prefix, name, count)
        operations[name] = _operation(topic, name)
        if topic.dead_letters:
            channels[f"{name}-dlq"] = _dead_letter_channel(topic, prefix, count)
    messages["dead-letter"] = _dead_letter_message()
    structs = [topic.struct for topic in TOPICS if topic.struct is not None]
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "recsys",
            "version": CONTRACT_VERSION,
            "description": (
                "Topics of the recommender. Read ranked lists with isolation level "
                "read_committed. Unknown fields are ignored, new fields have defaults, and a "
                "breaking change is a new topic."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": _described({"$defs": schemas})["$defs"]},
    }


def write(folder: Path, prefix: str = "recsys") -> list[Path]:
    """Write `schema/<topic>.json` and `asyncapi.json` under a folder; return the files."""
    schemas = folder / "schema"
    schemas.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, schema in message_schemas().items():
        files.append(schemas / f"{suffix}.json")
        files[-1].write_text(as_text(schema), encoding="utf-8")
    files.append(folder / "asyncapi.json")
    files[-1].write_text(as_text(asyncapi(prefix)), encoding="utf-8")
    return files


def as_text(document: Any) -> str:
    """A document as we write it: indented, in the order it was built."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema with its docstrings unindented."""
    for definition in schema["$defs"].values():
        definition["description"] = inspect.cleandoc(definition["description"])
    return schema


def _examples(struct: type[Message]) -> list[Any]:
    return [msgspec.to_builtins(example) for example in EXAMPLES[struct]]


def _message(topic: Topic) -> dict[str, Any]:
    key = {
        "type": "string",
        "description": f"UTF-8, the {topic.keyed}_id; lanes go by murmur2, as in Java clients.",
    }
    message: dict[str, Any] = {
        "name": topic.struct.__name__ if topic.struct else topic.suffix,
        "title": topic.about,
        "contentType": _content_type(topic),
        "headers": _header_schema(headers_of(topic), required=()),
        "payload": _payload(topic),
        "bindings": {"kafka": {"key": key, "bindingVersion": _BINDING_VERSION}},
    }
    if topic.struct is not None and topic.encoding == "json":
        message["examples"] = [{"payload": payload} for payload in _examples(topic.struct)]
    return message


def _content_type(topic: Topic) -> str:
    return {
        "json": "application/json",
        "msgpack": "application/msgpack",
        "image": "image/*",
        "binary": "application/octet-stream",
    }[topic.encoding]


def _payload(topic: Topic) -> dict[str, Any]:
    if topic.struct is not None:
        return {"$ref": f"#/components/schemas/{topic.struct.__name__}"}
    return {"type": "string", "format": "binary", "maxLength": topic.body_bytes_max}


def _header_schema(headers: dict[str, str], required: tuple[str, ...]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": about} for name, about in headers.items()}
    return {"type": "object", "properties": properties, "required": list(required)}


def _channel(topic: Topic, prefix: str, name: str, partitions: int) -> dict[str, Any]:
    return {
        "address": topic.name(prefix),
        "title": topic.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name(prefix),
                "partitions": partitions,
                "topicConfiguration": _configuration(topic),
                "bindingVersion": _BINDING_VERSION,
            }
        },
        **({} if topic.public else {"x-internal": True}),
    }


def _configuration(topic: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "cleanup.policy": [topic.cleanup],
        "max.message.bytes": topic.message_bytes_max,
    }
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return configuration


def _operation(topic: Topic, name: str) -> dict[str, Any]:
    # "receive" and "send" are said of us: we receive what others produce.
    writes = topic is topics.RECOMMENDATIONS or not topic.public
    return {
        "action": "send" if writes else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "summary": topic.about,
    }


def _dead_letter_channel(topic: Topic, prefix: str, partitions: int) -> dict[str, Any]:
    letters = topics.dead_letters_of(topic)
    return _channel(letters, prefix, "dead-letter", partitions)


def _dead_letter_message() -> dict[str, Any]:
    headers = _COMMON_HEADERS | DEAD_LETTER_HEADERS | RESOLVED_HEADER
    return {
        "name": "DeadLetter",
        "title": "a record that could not be read",
        "description": "Key, body and headers are the original's; ours are added.",
        "contentType": "application/octet-stream",
        "headers": _header_schema(headers, required=()),
        "payload": {"type": "string", "format": "binary"},
    }
