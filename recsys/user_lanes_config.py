"""Names and bounds of the behaviour role, and what the settings say of them."""

from dataclasses import dataclass, field

from recsys.settings import MAIN, Settings
from recsys.user_state import StateLimits
from recsys.wanted import mirrors
from streams import topics


@dataclass(frozen=True)
class UserLanesConfig:
    """Names and bounds of the behaviour role. Rates are for the whole worker.

    `partitions` are those of the live inputs; a lane reads one of them, or where `mirrored` a
    partition of the generation's own mirror of all of them.
    """

    prefix: str = "recsys"
    own_prefix: str = "recsys"
    generation: str = MAIN
    partitions: int = 24
    mirrored: bool = False
    k: int = 10
    lists_per_s_max: float = 2500.0
    list_delay_ms_max: int = 2000
    future_ms_max: int = topics.DAY_MS
    unknown_items: str = "learn"
    image_half_life_days: float = 3.0
    limits: StateLimits = field(default_factory=StateLimits)


def user_lanes_config(settings: Settings, live_partitions: int) -> UserLanesConfig:
    """The behaviour role's part of the settings."""
    mine, state = settings.worker, settings.state
    return UserLanesConfig(
        prefix=settings.prefix,
        own_prefix=settings.own_prefix,
        generation=settings.generation,
        partitions=live_partitions,
        mirrored=mirrors(settings, live_partitions),
        k=settings.rank.k,
        lists_per_s_max=2.5 * mine.list_events_per_s_max,
        list_delay_ms_max=mine.list_delay_ms_max,
        image_half_life_days=settings.rank.image_half_life_days,
        future_ms_max=settings.events.future_ms_max,
        unknown_items=settings.events.unknown_items,
        limits=StateLimits(
            entries_max=state.user_entries_max,
            inactive_days_max=max(1, int(state.user_ttl_days)),
            users_max=state.users_max,
        ),
    )
