"""The pipeline's part of the settings: how lists are made, the variants of it, and the rules."""

from dataclasses import replace
from pathlib import Path

from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig
from recsys.rules import Rules, RulesError
from recsys.settings import Rank, Settings, SettingsError, overlaid
from recsys.variants import Variant, Variants

LIST_RULES = (
    "repeats", "category_share_max", "brand_share_max", "price_band_share_max", "diversity",
    "fresh_share", "fresh_events", "explore_share", "impression_discount", "rare_lift",
)  # fmt: skip


def rerank_config(rank: Rank) -> RerankConfig:
    """How a list is made of what was ranked."""
    return RerankConfig(**{name: getattr(rank, name) for name in LIST_RULES})


def pipeline_config(settings: Settings) -> PipelineConfig:
    """How lists are made. Raises SettingsError where a variant's file is wrong."""
    rank = settings.rank
    config = PipelineConfig(
        event_weights=dict(settings.events.weights),
        sources=rank.sources or None,
        candidates_per_source=rank.candidates_per_source,
        rerank=rerank_config(rank),
    )
    variants = tuple(_variant(settings, Path(file), share) for file, share in rank.variants.items())
    try:
        Variants(config.rerank, variants)
    except ValueError as error:
        raise SettingsError(f"rank.variants: {error}") from None
    return replace(config, variants=variants)


def _variant(settings: Settings, file: Path, share: float) -> Variant:
    """What a settings file says of lists, over these settings."""
    other = overlaid(settings, file)
    same = other.rank.model_copy(update={n: getattr(settings.rank, n) for n in LIST_RULES})
    if other.model_copy(update={"rank": same}).model_dump() != settings.model_dump():
        raise SettingsError(
            f"{file}: variants that run at once differ in {', '.join(LIST_RULES)} of [rank] alone; "
            "for anything else start a generation of its own"
        )
    return Variant(file.stem, share, rerank_config(other.rank))


def rules_of(settings: Settings) -> Rules:
    """The shop's rules. Raises SettingsError where their file cannot be read."""
    if not settings.rank.rules_file:
        return Rules()
    try:
        return Rules(file=Path(settings.rank.rules_file))
    except RulesError as error:
        raise SettingsError(f"rank.rules_file: {error}") from None
