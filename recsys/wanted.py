"""The topics that the settings ask for: those of the contract, and a generation's own."""

from dataclasses import replace

from recsys.settings import MAIN, Settings
from streams import admin, topics
from streams.admin import WantedTopic
from streams.topics import Topic

USER_INPUTS = (topics.BEHAVIOUR, topics.REQUESTS, topics.IMAGE_EMBEDDINGS, topics.FORGET)
URGENT = (topics.REQUESTS, topics.IMAGE_EMBEDDINGS)  # somebody looks at a screen and waits
OWN = (  # what a generation does not share; its lists go aside until it is promoted
    topics.USER_STATE, topics.ITEM_UPDATES, topics.ITEM_STATE, topics.ITEM_FACTORS,
    topics.RECOMMENDATIONS,
)  # fmt: skip


def mirrors(settings: Settings, live_partitions: int) -> bool:
    """Whether a generation has another number of lanes than the live inputs have partitions."""
    return settings.generation != MAIN and settings.partitions != live_partitions


def wanted_topics(settings: Settings, live_partitions: int | None = None) -> list[WantedTopic]:
    """Every topic that workers of these settings read or write."""
    if settings.generation == MAIN or live_partitions is None:
        live_partitions = settings.partitions
    counts = settings.item_partitions, settings.replication
    wanted = admin.wanted_topics(settings.prefix, live_partitions, *counts)
    if settings.generation == MAIN:
        return wanted
    own = {
        each.name: each
        for each in admin.wanted_topics(settings.own_prefix, settings.partitions, *counts)
    }
    wanted += [own[topic.name(settings.own_prefix)] for topic in OWN]
    if mirrors(settings, live_partitions):
        wanted += [_mirrored(topic, own[topic.name(settings.own_prefix)]) for topic in USER_INPUTS]
    return wanted


def _mirrored(topic: Topic, wanted: WantedTopic) -> WantedTopic:
    """With room for the header that tells a record's place, and its time kept as it was."""
    configs = {
        **wanted.configs,
        "max.message.bytes": str(topic.copy_bytes_max),
        "message.timestamp.type": "CreateTime",
    }
    return replace(wanted, configs=configs, about=f"copied: {wanted.about}")


async def find_wanted(settings: Settings) -> list[WantedTopic]:
    """The same, with the live inputs' partitions as the broker has them. Raises AdminError."""
    main = settings.generation == MAIN
    return wanted_topics(settings, None if main else await live_partitions(settings))


async def live_partitions(settings: Settings) -> int:
    """How many partitions the live inputs have; the setting where there are none yet."""
    name = topics.BEHAVIOUR.name(settings.prefix)
    found = await admin.find_topics(settings.connection(), [name])
    return found[name].partitions if name in found else settings.partitions


async def of_generation(settings: Settings, generation: str) -> Settings:
    """The settings of a generation that is there, with as many lanes as its topics have."""
    named = settings.model_copy(update={"generation": generation})
    name = topics.USER_STATE.name(named.own_prefix)
    found = await admin.find_topics(settings.connection(), [name])
    lanes = found[name].partitions if name in found else await live_partitions(settings)
    return named.model_copy(update={"partitions": lanes})
