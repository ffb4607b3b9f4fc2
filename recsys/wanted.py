"""The topics that the settings ask for: those of the contract, and a generation's own."""

from recsys.settings import MAIN, Settings
from streams import admin, topics
from streams.admin import WantedTopic

OWN = (  # what a generation does not share; its lists go aside until it is promoted
    topics.USER_STATE, topics.ITEM_UPDATES, topics.ITEM_STATE, topics.ITEM_FACTORS,
    topics.RECOMMENDATIONS,
)  # fmt: skip


def wanted_topics(settings: Settings) -> list[WantedTopic]:
    """Every topic that workers of these settings read or write."""
    counts = settings.partitions, settings.item_partitions, settings.replication
    wanted = admin.wanted_topics(settings.prefix, *counts)
    if settings.generation != MAIN:
        names = {topic.name(settings.own_prefix) for topic in OWN}
        own = admin.wanted_topics(settings.own_prefix, *counts)
        wanted += [each for each in own if each.name in names]
    return wanted
