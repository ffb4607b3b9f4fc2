"""The contract: every message that crosses Kafka, as one struct each.

Rules of evolution: unknown fields are ignored, a new field has a default, a breaking change is a
new topic (`.v2`). Public messages are JSON; internal ones are MessagePack. Times in what we write
are integers, milliseconds since 1970-01-01 UTC; in what we read they may also be RFC 3339 text with
an offset. What `streams.codec` hands over has them as integers only.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

ID_LENGTH_MAX = 256
TEXT_LENGTH_MAX = 4096
LIST_SIZE_MAX = 1000
TIMESTAMP_MS_MIN = 315_532_800_000  # 1980-01-01: what lies before is seconds taken for milliseconds
TIMESTAMP_MS_MAX = 4_102_444_800_000  # 2100-01-01

Id = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=ID_LENGTH_MAX,
        # Told here, checked in the codec: msgspec would run the pattern on every id.
        extra_json_schema={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_LENGTH_MAX)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Price = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Vector = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4 * 16384)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
CERTAIN = 1.0  # what is left out of messages is told by identity
Milliseconds = Annotated[int, msgspec.Meta(ge=TIMESTAMP_MS_MIN, le=TIMESTAMP_MS_MAX)]
Timestamp = Milliseconds | Annotated[datetime, msgspec.Meta(tz=True)]

EventType = Literal[
    "view", "click", "cart", "purchase", "return", "like", "dislike", "rating", "impression"
]
EVENT_TYPES: tuple[str, ...] = (
    "view", "click", "cart", "purchase", "return", "like", "dislike", "rating", "impression",
)  # fmt: skip


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def time_ms(timestamp: int | datetime) -> int:
    """Milliseconds since 1970-01-01 UTC; what is finer is cut off.

    >>> time_ms(datetime.fromisoformat("2010-12-01T08:26:00Z"))
    1291191960000
    """
    if isinstance(timestamp, datetime):
        return (timestamp - _EPOCH) // _MILLISECOND
    return timestamp


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of every message: keyword-only, and what equals its default is not written."""


class BehaviourEvent(Message):
    """What a user did with an item. Topic `behaviour`, key: user_id.

    With an `event_id` an event that arrives twice counts once, among the user's last 16 with an
    id; without one its topic, partition and offset are its id. `value` is a rating (type `rating`)
    or a quantity.
    """

    user_id: Id
    item_id: Id
    type: EventType
    timestamp: Timestamp
    event_id: Id | None = None
    value: Amount | None = None
    session_id: Id | None = None
    context: dict[str, str | float | bool | None] | None = None


class Product(Message):
    """One product of the catalogue. Topic `catalogue`, key: item_id; a tombstone removes it."""

    item_id: Id
    title: Text = ""
    category: Text | None = None
    price: Price | None = None
    brand: Text | None = None
    available: bool = True
    tags: Annotated[list[Text], msgspec.Meta(max_length=100)] = []
    url: Text | None = None
    image: Text | None = None


class CandidateFilter(Message):
    """Which items may be in the list: all conditions that are given must hold."""

    categories: Annotated[list[Text], msgspec.Meta(max_length=100)] | None = None
    price_min: Price | None = None
    price_max: Price | None = None
    items: Annotated[list[Id], msgspec.Meta(max_length=LIST_SIZE_MAX)] | None = None
    exclude: Annotated[list[Id], msgspec.Meta(max_length=LIST_SIZE_MAX)] | None = None


class RecommendationRequest(Message):
    """Ask for a list now. Topic `requests`, key: user_id.

    With `context_items` the list is "similar to these": they lead the candidates, and the user's
    own history ranks them. The answer carries `request_id`.
    """

    user_id: Id
    request_id: Id
    k: Annotated[int, msgspec.Meta(ge=1, le=LIST_SIZE_MAX)] = 10
    timestamp: Timestamp | None = None
    filter: CandidateFilter | None = None
    context_items: Annotated[list[Id], msgspec.Meta(max_length=100)] = []


class Trigger(Message):
    """The record that a list answers: its kind and where it lies."""

    kind: Literal["event", "request", "upload"]
    topic: str
    partition: int
    offset: int


class RankedItem(Message):
    """One line of a list. `sources` found it; `reason` says in words what carried it.

    `propensity` is how likely the item was to be shown at this place: below 1 where new items are
    tried out, left out of the message where it is 1.
    """

    item_id: str
    score: float
    rank: int
    sources: list[str]
    reason: str
    propensity: Probability = CERTAIN


class RankedList(Message):
    """A ranked product list. Topic `recommendations`, key: user_id. Read it `read_committed`.

    `list_id` follows from the trigger's position and the model version, so that a reader who
    sees one twice knows it. `event_time` is the trigger's own time, `produced_time` ours.
    """

    list_id: str
    user_id: str
    trigger: Trigger
    items: list[RankedItem]
    model_version: str
    variant: str
    event_time: int
    produced_time: int
    request_id: str | None = None
    upload_id: str | None = None


class ForgetUser(Message):
    """Forget a user. Topic `forget`, key: user_id. Their records up to `timestamp` count no more.

    What is learned from then on is learned afresh; a lane that learned newer events before it read
    this forgets them too. The record itself is kept: a log that is read again must not bring back
    who was forgotten.
    """

    user_id: Id
    timestamp: Timestamp


class ClassProbability(Message):
    """One category of a photo, with its calibrated probability."""

    category: Text
    probability: Probability


class ImageEmbedding(Message):
    """What the image role read in an upload. Topic `image-embeddings`, key: user_id; MessagePack.

    `vector` is little-endian float32; vectors of two encoders never meet, so its name is here.
    """

    user_id: Id
    upload_id: Id
    timestamp: Milliseconds
    encoder: Id
    vector: Vector
    classes: Annotated[list[ClassProbability], msgspec.Meta(max_length=1000)] = []
    k: Annotated[int, msgspec.Meta(ge=1, le=LIST_SIZE_MAX)] = 10


class ItemEmbedding(Message):
    """A product's picture as a vector. Topic `item-embeddings`, key: item_id; MessagePack."""

    item_id: Id
    encoder: Id
    vector: Vector
    classes: Annotated[list[ClassProbability], msgspec.Meta(max_length=1000)] = []


# Header names: part of the contract. Values are UTF-8 text, numbers in decimal.
HEADER_CONTENT_TYPE = "content-type"
HEADER_TRACEPARENT = "traceparent"
HEADER_CLOUDEVENT_ID = "ce_id"  # serves as event_id where the body has none
HEADER_UPLOAD_ID = "recsys-upload-id"
HEADER_TIMESTAMP = "recsys-timestamp"
HEADER_K = "recsys-k"
HEADER_ORIGIN = "recsys-origin"  # "topic/partition/offset" of a record passed on to its own lane
HEADER_PROMOTE = "recsys-promote"  # alone on a record: a generation writes the lists from here on
HEADER_PLACE = "recsys-place"  # "partition/offset" of what a mirror copied, "/untimed"
HEADER_DLQ_TOPIC = "recsys-dlq-topic"
HEADER_DLQ_PARTITION = "recsys-dlq-partition"
HEADER_DLQ_OFFSET = "recsys-dlq-offset"
HEADER_DLQ_TIMESTAMP = "recsys-dlq-timestamp"
HEADER_DLQ_REASON = "recsys-dlq-reason"  # one of streams.codec.REASONS
HEADER_DLQ_FIELD = "recsys-dlq-field"
HEADER_DLQ_MESSAGE = "recsys-dlq-message"
HEADER_DLQ_RESOLVED = (
    "recsys-dlq-resolved"  # "partition/offset" of a dead letter that was sent back
)
