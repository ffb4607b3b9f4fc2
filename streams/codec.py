"""Bytes to structs, with every check, and back.

What cannot be read raises `DecodeError`, and nothing else does: its `reason` is one word of
`REASONS`, its `field` names the field that is at fault, its message says it in a sentence.
"""

import json
import math
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from streams import topics
from streams.events import (
    HEADER_CLOUDEVENT_ID,
    ID_LENGTH_MAX,
    TIMESTAMP_MS_MAX,
    TIMESTAMP_MS_MIN,
    BehaviourEvent,
    ForgetUser,
    ImageEmbedding,
    ItemEmbedding,
    Message,
    Product,
    RankedList,
    RecommendationRequest,
    time_ms,
)
from streams.topics import DAY_MS, Topic

REASONS: Mapping[str, str] = {
    "not-json": "the body is not JSON",
    "not-msgpack": "the body is not MessagePack",
    "encoding": "text that is not UTF-8",
    "missing": "a field, or the whole body, is missing",
    "type": "a field has the wrong type",
    "range": "a number or a list is out of its bounds, or not a number at all",
    "id": "an id is empty, too long, or holds control characters",
    "timestamp": "not a time, or one beyond its bounds",
    "unknown-type": "an event type that the contract does not have",
    "too-large": "the body is over the topic's limit",
    "key": "the key is null, not UTF-8, or not the id it must be",
    "unknown-item": "the catalogue does not hold the item, and a setting demands that it does",
    "image": "not an image that we can read",
}
_MESSAGE_LENGTH_MAX = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class DecodeError(ValueError):
    """A record that breaks the contract. `reason` is one of `REASONS`, `field` is never empty."""

    def __init__(self, reason: str, field: str, message: str) -> None:
        self.reason = reason
        self.field = field
        self.message = _CONTROL.sub("?", message[:_MESSAGE_LENGTH_MAX])
        super().__init__(f"{field}: {self.message}")


class IncomingRecord(Protocol):
    """What we read of a Kafka record; aiokafka's `ConsumerRecord` is one."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


R = TypeVar("R", bound=IncomingRecord)
Check = Callable[[Any, IncomingRecord, int], None]

_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def encode(message: Message) -> bytes:
    """A message as its topic holds it: embeddings as MessagePack, everything else as JSON."""
    if isinstance(message, ImageEmbedding | ItemEmbedding):
        return _encode_msgpack(message)
    return _encode_json(message)


def decode_chunk(
    topic: Topic, records: Sequence[R], future_ms_max: int = DAY_MS
) -> tuple[list[Any], list[R], list[tuple[R, DecodeError]]]:
    """Read the records of one partition, in order.

    Returns the messages (None for a tombstone), the records they came from (same length), and
    the records that could not be read with their errors. Raises nothing.
    """
    reader = _READERS[topic.suffix]
    messages: list[Any] = []
    good: list[R] = []
    bad: list[tuple[R, DecodeError]] = []
    for record in records:
        try:
            message = reader.read(record, future_ms_max)
        except DecodeError as error:
            bad.append((record, error))
        else:
            messages.append(message)
            good.append(record)
    return messages, good, bad


def decode(topic: Topic, record: IncomingRecord, future_ms_max: int = DAY_MS) -> Any:
    """Read one record: a struct of `topic.struct`, or None for a tombstone.

    A time more than `future_ms_max` after the record's own Kafka timestamp is refused.
    Raises DecodeError.
    """
    return _READERS[topic.suffix].read(record, future_ms_max)


def check_event(event: BehaviourEvent, latest_ms: int = TIMESTAMP_MS_MAX) -> None:
    """Check what types alone do not tell, and turn the time into an integer.

    Serves events that do not come from Kafka, such as the rows of a log. Raises DecodeError.
    """
    check_id("user_id", event.user_id)
    check_id("item_id", event.item_id)
    if event.event_id is not None:
        check_id("event_id", event.event_id)
    if event.session_id is not None:
        check_id("session_id", event.session_id)
    event.timestamp = checked_time("timestamp", time_ms(event.timestamp), latest_ms)


def check_id(field: str, value: str) -> None:
    """Raise DecodeError for an id that is blank, or holds what is no readable character."""
    if not value.isprintable():
        if (found := _CONTROL.search(value)) is not None:
            told = f"holds the control character U+{ord(found.group()):04X}"
            raise DecodeError("id", field, told)
        if _LONE_SURROGATE.search(value):
            raise DecodeError("encoding", field, "is not UTF-8 text")
    if not value or value.isspace():
        raise DecodeError("id", field, "is blank")


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def invalid(error: msgspec.ValidationError) -> DecodeError:
    """Msgspec's complaint in our terms: which field, and which of our reasons."""
    found = _VALIDATION.fullmatch(str(error))
    complaint, path = (found["complaint"], found["path"] or "") if found else (str(error), "")
    path = _INDEX.sub("[]", path)  # a field's name is also a label: few of them
    if (missing := _MISSING.fullmatch(complaint)) is not None:
        field = f"{path}.{missing['name']}" if path else missing["name"]
        return DecodeError("missing", field, "is missing")
    field = path or "body"
    if ", got " in complaint:
        reason = "type"
    elif _stem(field) in _ID_FIELDS:
        reason = "id"
    elif _stem(field) == "timestamp":
        reason = "timestamp"
    elif field == "type":
        reason = "unknown-type"
    else:
        reason = "range"
    return DecodeError(reason, field, complaint)


_VALIDATION = re.compile(r"(?P<complaint>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")
_ID_FIELDS = frozenset(
    {"user_id", "item_id", "event_id", "session_id", "request_id", "upload_id", "items[]",
     "exclude[]", "context_items[]", "encoder"}
)  # fmt: skip


def _stem(field: str) -> str:
    return field.rpartition(".")[2]


class _Reader:
    """How the records of one topic are read."""

    __slots__ = ("_check", "_limit", "_msgpack", "_owner", "_parse", "_tombstones")

    def __init__(self, topic: Topic, struct: type[Message], check: Check) -> None:
        self._msgpack = topic.encoding == "msgpack"
        make = msgspec.msgpack.Decoder if self._msgpack else msgspec.json.Decoder
        self._parse: Callable[[bytes], Any] = make(struct).decode
        self._check = check
        self._limit = topic.body_bytes_max
        self._owner = f"{topic.keyed}_id"
        self._tombstones = topic.cleanup == "compact"

    def read(self, record: IncomingRecord, future_ms_max: int) -> Any:
        body = record.value
        if not body:
            if body is None and self._tombstones:
                check_id(self._owner, _key_text(record.key, self._owner))
                return None
            raise DecodeError("missing", "body", "the record has no body")
        if len(body) > self._limit:
            raise DecodeError(
                "too-large", "body", f"is of {len(body)} bytes, over the limit of {self._limit}"
            )
        try:
            message = self._parse(body)
        except msgspec.ValidationError as error:
            raise invalid(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(body, error) from None
        owner: str = getattr(message, self._owner)
        if owner.encode() != record.key:
            raise _wrong_key(record.key, self._owner)
        check_id(self._owner, owner)
        self._check(message, record, future_ms_max)
        return message

    def _unreadable(self, body: bytes, error: Exception) -> DecodeError:
        if self._msgpack:
            return DecodeError("not-msgpack", "body", str(error))
        if isinstance(error, RecursionError):
            return DecodeError("not-json", "body", "is nested too deeply")
        return _suspect(body) or DecodeError("not-json", "body", str(error))


def _suspect(body: bytes) -> DecodeError | None:
    """Read a broken body as leniently as can be, to name the field that breaks it."""
    try:
        fields = json.loads(body.decode("utf-8", "surrogateescape"))
        if not isinstance(fields, dict):
            return None
        for name, value in fields.items():
            field = name if _NAME.fullmatch(name) else "body"
            if isinstance(value, float) and not math.isfinite(value):
                return DecodeError("range", field, f"is {value}, which JSON does not have")
            text = ascii((name, value))
            if _SURROGATE.search(text):
                return DecodeError("encoding", field, "is not UTF-8 text")
            if _NOT_FINITE.search(text):
                return DecodeError("range", field, "holds NaN or Infinity")
    except (ValueError, RecursionError):
        pass
    return None


_NAME = re.compile(r"[a-z_]{1,32}")
_SURROGATE = re.compile(r"\\ud[89a-f]")  # as ascii() writes them
_NOT_FINITE = re.compile(r"[ \[]-?(nan|inf)\b")


def key_id(key: bytes | None, owner: str) -> str:
    """A record's key as the id it must be. Raises DecodeError."""
    text = _key_text(key, owner)
    check_id("key", text)
    return text


def _key_text(key: bytes | None, owner: str) -> str:
    if key is None:
        raise DecodeError("key", "key", f"is null; it must be the {owner}")
    if not key:
        raise DecodeError("key", "key", f"is empty; it must be the {owner}")
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise DecodeError("key", "key", f"is not UTF-8 text; it must be the {owner}") from None
    if len(text) > ID_LENGTH_MAX:
        raise DecodeError("key", "key", f"is longer than {ID_LENGTH_MAX} characters")
    return text


def _wrong_key(key: bytes | None, owner: str) -> DecodeError:
    try:
        text = _key_text(key, owner)
    except DecodeError as error:
        return error
    return DecodeError("key", "key", f"is {text[:64]!r}, which is not the {owner} of the body")


def _latest_ms(record: IncomingRecord, future_ms_max: int) -> int:
    if record.timestamp < 0:  # any clock of ours could be moved by it, decades ahead
        raise DecodeError("timestamp", "timestamp", "the record has no Kafka time to judge it by")
    return record.timestamp + future_ms_max


def checked_record_time(
    field: str, value_ms: int, record: IncomingRecord, future_ms_max: int
) -> int:
    """The time, if it lies within the bounds, and not too far after the record's own."""
    return checked_time(field, value_ms, _latest_ms(record, future_ms_max))


def checked_time(field: str, value_ms: int, latest_ms: int = TIMESTAMP_MS_MAX) -> int:
    """The time, if it lies within the bounds. Raises DecodeError."""
    if not TIMESTAMP_MS_MIN <= value_ms <= TIMESTAMP_MS_MAX:
        raise DecodeError("timestamp", field, f"{value_ms} ms lies outside the years 1980 to 2100")
    if value_ms > latest_ms:
        raise DecodeError(
            "timestamp", field, f"{value_ms} ms lies too far in the future, {latest_ms} is allowed"
        )
    return value_ms


def _check_behaviour(event: BehaviourEvent, record: IncomingRecord, future_ms_max: int) -> None:
    check_id("item_id", event.item_id)
    if event.event_id is not None:
        check_id("event_id", event.event_id)
    elif record.headers:
        event.event_id = _cloudevent_id(record.headers)
    if event.session_id is not None:
        check_id("session_id", event.session_id)
    event.timestamp = checked_record_time(
        "timestamp", time_ms(event.timestamp), record, future_ms_max
    )


def _cloudevent_id(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    for name, value in headers:
        if name == HEADER_CLOUDEVENT_ID and value:
            try:
                text = value.decode()
            except UnicodeDecodeError:
                raise DecodeError("encoding", name, "the header is not UTF-8 text") from None
            if len(text) > ID_LENGTH_MAX:
                raise DecodeError("id", name, f"is longer than {ID_LENGTH_MAX} characters")
            check_id(name, text)
            return text
    return None


def _check_request(
    request: RecommendationRequest, record: IncomingRecord, future_ms_max: int
) -> None:
    check_id("request_id", request.request_id)
    for item_id in request.context_items:
        check_id("context_items[]", item_id)
    wanted = request.filter
    if wanted is not None:
        for item_id in wanted.items or ():
            check_id("filter.items[]", item_id)
        for item_id in wanted.exclude or ():
            check_id("filter.exclude[]", item_id)
        low, high = wanted.price_min, wanted.price_max
        if low is not None and high is not None and low > high:
            raise DecodeError("range", "filter.price_max", f"{high} is below price_min, {low}")
    if request.timestamp is not None:
        request.timestamp = checked_record_time(
            "timestamp", time_ms(request.timestamp), record, future_ms_max
        )


def _check_forget(forget: ForgetUser, record: IncomingRecord, future_ms_max: int) -> None:
    forget.timestamp = checked_record_time(
        "timestamp", time_ms(forget.timestamp), record, future_ms_max
    )


def _check_image(image: ImageEmbedding, record: IncomingRecord, future_ms_max: int) -> None:
    check_id("upload_id", image.upload_id)
    _check_vector(image.vector)
    checked_record_time("timestamp", image.timestamp, record, future_ms_max)


def _check_picture(picture: ItemEmbedding, _record: IncomingRecord, _future_ms_max: int) -> None:
    _check_vector(picture.vector)


def _check_vector(vector: bytes) -> None:
    if len(vector) % 4:
        raise DecodeError("range", "vector", f"{len(vector)} bytes are no row of float32")
    if not all(map(math.isfinite, array("f", vector))):
        raise DecodeError("range", "vector", "holds NaN or Infinity")


def _no_check(_message: Product | RankedList, _record: IncomingRecord, _future_ms_max: int) -> None:
    return


_READERS = {
    topic.suffix: _Reader(topic, topic.struct, check)
    for topic, check in (
        (topics.BEHAVIOUR, _check_behaviour),
        (topics.REQUESTS, _check_request),
        (topics.FORGET, _check_forget),
        (topics.CATALOGUE, _no_check),
        (topics.RECOMMENDATIONS, _no_check),
        (topics.IMAGE_EMBEDDINGS, _check_image),
        (topics.ITEM_EMBEDDINGS, _check_picture),
    )
    if topic.struct is not None
}
