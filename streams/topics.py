"""The topics: name, key, struct and limits of each, in one registry."""

from dataclasses import dataclass
from typing import Literal

from streams import events

Keyed = Literal["user", "item"]
KIB = 1024
IMAGE_BYTES_MAX = 8 * KIB * KIB
MESSAGE_BYTES_MAX = KIB * KIB
PACKED_BYTES_MAX = 8 * KIB * KIB  # internal records that hold a whole chunk or a set of weights
HEADERS_BYTES_MAX = 64 * KIB  # room for key and headers beside the body
DAY_MS = 24 * 60 * 60 * 1000
# A reader away for longer may have missed removals: an older snapshot must not be believed.
TOMBSTONES_KEPT_MS = 7 * DAY_MS


@dataclass(frozen=True)
class Topic:
    """One topic of the contract. `suffix` is its name without the prefix.

    Topics keyed by user share one partition count (lane p is partition p of all of them); topics
    keyed by item have one of their own. `body_bytes_max` is what we read, `message_bytes_max` what
    the broker takes: the difference is what can arrive and become a dead letter. What workers write
    alone has the broker's time: theirs may be wrong, and Kafka refuses what is an hour ahead of it.
    """

    suffix: str
    keyed: Keyed
    struct: type[events.Message] | None
    encoding: Literal["json", "msgpack", "image", "binary"]
    cleanup: Literal["delete", "compact"]
    about: str
    public: bool = True
    dead_letters: bool = False
    broker_time: bool = False
    retention_ms: int | None = None
    message_bytes_max: int = MESSAGE_BYTES_MAX
    body_bytes_max: int = MESSAGE_BYTES_MAX - HEADERS_BYTES_MAX

    def name(self, prefix: str = "recsys") -> str:
        """Full name under a prefix.

        >>> BEHAVIOUR.name("shop")
        'shop.behaviour.v1'
        """
        return f"{prefix}.{self.suffix}"

    @property
    def copy_bytes_max(self) -> int:
        """What a topic of copies of its records takes: they have headers of ours as well."""
        return self.message_bytes_max + HEADERS_BYTES_MAX


def dead_letter_name(topic_name: str) -> str:
    """Name of the topic that takes what could not be read of another.

    >>> dead_letter_name("recsys.behaviour.v1")
    'recsys.behaviour.v1.dlq'
    """
    return f"{topic_name}.dlq"


def dead_letters_of(topic: Topic) -> Topic:
    """The topic that takes what could not be read of another: wider, and kept for 30 days."""
    return Topic(
        dead_letter_name(topic.suffix), topic.keyed, None, "binary", "delete",
        f"what could not be read of {topic.suffix}", broker_time=True, retention_ms=30 * DAY_MS,
        message_bytes_max=topic.copy_bytes_max,
    )  # fmt: skip


BEHAVIOUR = Topic(
    "behaviour.v1", "user", events.BehaviourEvent, "json", "delete",
    "what users do", dead_letters=True, retention_ms=30 * DAY_MS, body_bytes_max=64 * KIB,
)  # fmt: skip
REQUESTS = Topic(
    "requests.v1", "user", events.RecommendationRequest, "json", "delete",
    "ask for a list now", dead_letters=True, retention_ms=DAY_MS,
)  # fmt: skip
IMAGE_UPLOADS = Topic(
    "image-uploads.v1", "user", None, "image", "delete",
    "photos users upload: the value is the file's bytes", dead_letters=True,
    retention_ms=7 * DAY_MS, message_bytes_max=IMAGE_BYTES_MAX + HEADERS_BYTES_MAX,
    body_bytes_max=IMAGE_BYTES_MAX,
)  # fmt: skip
FORGET = Topic(
    "forget.v1", "user", events.ForgetUser, "json", "compact",
    "users to be forgotten, and as of when", dead_letters=True, body_bytes_max=64 * KIB,
)  # fmt: skip
CATALOGUE = Topic(
    "catalogue.v1", "item", events.Product, "json", "compact",
    "the products; a tombstone removes one", dead_letters=True,
)  # fmt: skip
PRODUCT_IMAGES = Topic(
    "product-images.v1", "item", None, "image", "compact",
    "the products' pictures: the value is the file's bytes", dead_letters=True,
    message_bytes_max=IMAGE_BYTES_MAX + HEADERS_BYTES_MAX,
    body_bytes_max=IMAGE_BYTES_MAX,
)  # fmt: skip
RECOMMENDATIONS = Topic(
    "recommendations.v1", "user", events.RankedList, "json", "delete",
    "ranked lists", broker_time=True, retention_ms=7 * DAY_MS,
)  # fmt: skip
USER_STATE = Topic(
    "user-state.v1",
    "user",
    None,
    "binary",
    "compact",
    "what is known of each user",
    public=False,
    broker_time=True,
)
ITEM_UPDATES = Topic(
    "item-updates.v1", "item", None, "binary", "delete",
    "what lanes learned of items, packed by chunk", public=False, broker_time=True,
    retention_ms=7 * DAY_MS,
    message_bytes_max=PACKED_BYTES_MAX, body_bytes_max=PACKED_BYTES_MAX,
)  # fmt: skip
ITEM_STATE = Topic(
    "item-state.v1",
    "item",
    None,
    "binary",
    "compact",
    "what is known of each item",
    public=False,
    broker_time=True,
    message_bytes_max=PACKED_BYTES_MAX,
    body_bytes_max=PACKED_BYTES_MAX,
)
ITEM_FACTORS = Topic(
    "item-factors.v1", "item", None, "binary", "compact",
    "factors of the newest refit, and the record that announces it", public=False,
    broker_time=True,
    message_bytes_max=PACKED_BYTES_MAX, body_bytes_max=PACKED_BYTES_MAX,
)  # fmt: skip
CONTROL = Topic(
    "control.v1", "user", None, "binary", "compact",
    "which generation writes the live lists, from which offsets on", public=False,
    broker_time=True,
)  # fmt: skip
IMAGE_EMBEDDINGS = Topic(
    "image-embeddings.v1", "user", events.ImageEmbedding, "msgpack", "delete",
    "uploads as vectors", public=False, dead_letters=True, broker_time=True,
    retention_ms=7 * DAY_MS,
)  # fmt: skip
ITEM_EMBEDDINGS = Topic(
    "item-embeddings.v1", "item", events.ItemEmbedding, "msgpack", "compact",
    "product pictures as vectors", public=False, broker_time=True,
)  # fmt: skip

TOPICS: tuple[Topic, ...] = (
    BEHAVIOUR, REQUESTS, IMAGE_UPLOADS, FORGET, CATALOGUE, PRODUCT_IMAGES, RECOMMENDATIONS,
    USER_STATE, ITEM_UPDATES, ITEM_STATE, ITEM_FACTORS, IMAGE_EMBEDDINGS, ITEM_EMBEDDINGS,
    CONTROL,
)  # fmt: skip


def topic_of(name: str) -> Topic:
    """The topic of a full name, or of its dead letters', under any prefix. Raises KeyError.

    >>> topic_of("shop.behaviour.v1").suffix
    'behaviour.v1'
    """
    for topic in TOPICS:
        if name.removesuffix(".dlq").endswith(f".{topic.suffix}"):
            return topic
    raise KeyError(name)


def how_to_create(name: str) -> str:
    """The command that makes a topic which is not there.

    >>> how_to_create("recsys.behaviour.v1"), how_to_create("shadow.forget.v1")
    ('recsys topics create', 'RECSYS_PREFIX=shadow recsys topics create')
    """
    for topic in TOPICS:
        if name.endswith(f".{topic.suffix}") and name != topic.name():
            return f"RECSYS_PREFIX={name.removesuffix(f'.{topic.suffix}')} recsys topics create"
    return "recsys topics create"
