"""The least that a broker's authorizer must allow each role of a worker."""

from collections.abc import Iterable, Iterator

from recsys.settings import Settings
from recsys.wanted import OWN, USER_INPUTS, mirrors
from streams import topics
from streams.permissions import Operation, Permission
from streams.topics import Topic, dead_letters_of

FOLLOWED = (  # what every worker reads whole
    topics.CATALOGUE, topics.ITEM_STATE, topics.ITEM_FACTORS, topics.ITEM_EMBEDDINGS,
    topics.FORGET, topics.CONTROL,
)  # fmt: skip

READS: dict[str, tuple[Topic, ...]] = {
    "behaviour": (*USER_INPUTS, topics.USER_STATE),
    "items": (topics.ITEM_UPDATES, topics.USER_STATE),  # the refit reads what is known of users
    "images": (topics.IMAGE_UPLOADS, topics.PRODUCT_IMAGES),
}
WRITES: dict[str, tuple[Topic, ...]] = {
    # To its own inputs too: what lies in the wrong partition is passed on to its own.
    "behaviour": (
        *USER_INPUTS, *map(dead_letters_of, USER_INPUTS),
        topics.USER_STATE, topics.RECOMMENDATIONS, topics.ITEM_UPDATES,
    ),
    "items": (topics.ITEM_STATE, topics.ITEM_FACTORS, dead_letters_of(topics.CATALOGUE)),
    "images": (
        topics.IMAGE_EMBEDDINGS, topics.ITEM_EMBEDDINGS,
        dead_letters_of(topics.IMAGE_UPLOADS), dead_letters_of(topics.PRODUCT_IMAGES),
    ),
}  # fmt: skip
GROUPS = {"behaviour": ("behaviour",), "items": ("items",), "images": ("uploads", "pictures")}


def permissions(
    settings: Settings, roles: Iterable[str], live_partitions: int | None = None
) -> list[Permission]:
    """What a worker of these roles needs, each rule once."""
    mirrored = live_partitions is not None and mirrors(settings, live_partitions)
    rules: dict[Permission, None] = {}
    for operation in _DESCRIBE:
        rule = Permission("topic", f"{settings.prefix}.", operation, prefixed=True)
        rules[rule] = None
    for role in roles:
        for rule in _of_role(settings, role):
            rules[rule] = None
        for rule in _of_mirror(settings) if mirrored and role == "behaviour" else ():
            rules[rule] = None
    return list(rules)


_DESCRIBE: tuple[Operation, ...] = ("DESCRIBE", "DESCRIBE_CONFIGS")


def _of_role(settings: Settings, role: str) -> Iterator[Permission]:
    application = settings.own_application
    for topic in (*READS[role], *FOLLOWED):
        for name in _names(settings, topic):
            yield Permission("topic", name, "READ")
    for topic in WRITES[role]:
        for name in _names(settings, topic):
            yield Permission("topic", name, "WRITE")
    for group in GROUPS[role]:
        yield Permission("group", f"{application}-{group}", "READ")
        yield Permission("transactional-id", f"{application}-{group}-", "WRITE", prefixed=True)
    if role == "items":
        yield Permission("transactional-id", f"{application}-refit", "WRITE")


def _of_mirror(settings: Settings) -> Iterator[Permission]:
    """To fill the generation's own inputs and to read them, beside the rules for the live ones."""
    group = f"{settings.own_application}-mirror"
    yield Permission("group", group, "READ")
    yield Permission("transactional-id", f"{group}-", "WRITE", prefixed=True)
    for topic in USER_INPUTS:
        yield Permission("topic", topic.name(settings.own_prefix), "READ")
        yield Permission("topic", topic.name(settings.own_prefix), "WRITE")


def _names(settings: Settings, topic: Topic) -> set[str]:
    """A topic's name; lists go to the live topic, or to the generation's own."""
    if topic is topics.RECOMMENDATIONS:
        return {topic.name(settings.prefix), topic.name(settings.own_prefix)}
    return {topic.name(settings.own_prefix if topic in OWN else settings.prefix)}
