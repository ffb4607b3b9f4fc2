"""Several pipelines over one log: each over all users, and over those that a hash gave it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models import metrics
from recsys.evaluate import ListKeeper, Outcome
from recsys.evaluation_log import Answers, EvaluationLog
from recsys.evaluation_methods import SERVED
from recsys.evaluation_report import interval, with_interval
from recsys.pipeline import PipelineConfig
from recsys.pipeline_settings import pipeline_config, rules_of
from recsys.rules import Rule
from recsys.settings import Settings, SettingsError, overlaid
from recsys.variants import DEFAULT, Variant, Variants
from streams.codec import encode
from streams.events import RankedItem, RankedList, Trigger

WINDOWS = 20


@dataclasses.dataclass(frozen=True)
class Entry:
    """A pipeline that takes part: its method's name, its variant's, and how it makes lists."""

    method: str
    name: str
    config: PipelineConfig
    rules: Sequence[Rule] = ()


def entries(settings: Settings, files: Sequence[Path], repeats: bool) -> list[Entry]:
    """The settings as they are, and each file's over them. Raises SettingsError."""
    names = [DEFAULT, *(file.stem for file in files)]
    if len(set(names)) < len(names):
        raise SettingsError(f"variants must have names of their own: {', '.join(names)}")
    found = [settings, *(overlaid(settings, file) for file in files)]
    return [
        Entry(
            SERVED if name == DEFAULT else f"{SERVED}:{name}",
            name,
            evaluated(each, repeats),
            rules_of(each).rules,
        )
        for name, each in zip(names, found, strict=True)
    ]


def evaluated(settings: Settings, repeats: bool) -> PipelineConfig:
    """The settings' pipeline, for all users, with the protocol's word on repeats."""
    config = pipeline_config(settings)
    rerank = dataclasses.replace(config.rerank, repeats=repeats)
    return dataclasses.replace(config, rerank=rerank, variants=())


class Split:
    """The users in parts of equal size, one a pipeline, by the hash that serving uses."""

    def __init__(self, found: Sequence[Entry]) -> None:
        share = 1.0 / len(found)
        others = [Variant(each.name, share, each.config.rerank) for each in found[1:]]
        self._first = found[0].name
        self._variants = Variants(found[0].config.rerank, others)

    def of(self, user_id: str) -> str:
        """The name of the pipeline that makes a user's lists."""
        variant = self._variants.of(user_id)
        return self._first if variant is self._variants.default else variant.name


def compared(
    log: EvaluationLog, answers: Answers, outcomes: Mapping[str, Outcome],
    found: Sequence[Entry], k: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row a variant: over all users, paired with the first variant; and over its own users."""
    parts = Split(found)
    variant = np.array([parts.of(user_id) for user_id in log.user_ids])
    users = log.users[answers.events]
    of_answer = variant[users]
    first = metrics.gains(outcomes[found[0].method].ranks, k)
    rows = []
    for each in found:
        gains = metrics.gains(outcomes[each.method].ranks, k)
        its = of_answer == each.name
        own = gains[its]
        apart = gains - first
        rows.append(
            {
                "variant": each.name, "method": each.method,
                f"ndcg@{k}": float(gains.mean()), f"ndcg@{k}_interval": interval(gains, users),
                "difference": float(apart.mean()), "difference_interval": interval(apart, users),
                "p": metrics.paired_p(
                    metrics.by_window(gains, WINDOWS), metrics.by_window(first, WINDOWS)
                ),
                "own_users": int((variant == each.name).sum()), "own_answers": len(own),
                f"own_ndcg@{k}": float(own.mean()) if len(own) else None,
                f"own_ndcg@{k}_interval": interval(own, users[its]),
            }
        )  # fmt: skip
    return rows


def table(rows: Sequence[dict[str, Any]], k: int) -> tuple[list[dict[str, str]], list[str]]:
    """The rows for people, with their columns."""
    lines = []
    for row in rows:
        own, half = row[f"own_ndcg@{k}"], row[f"own_ndcg@{k}_interval"]
        lines.append(
            {
                "variant": row["variant"],
                f"NDCG@{k}, all users": with_interval(row[f"ndcg@{k}"], row[f"ndcg@{k}_interval"]),
                "less the first": with_interval(row["difference"], row["difference_interval"], "+"),
                "p": f"{row['p']:.0e}",
                "its users": f"{row['own_users']:,}", "answers": f"{row['own_answers']:,}",
                f"NDCG@{k}, its users": "" if own is None else with_interval(own, half),
            }
        )  # fmt: skip
    return lines, list(lines[0])


class ListLog:
    """Writes the lists that users would have seen, each by its user's variant, a line each."""

    def __init__(self, path: Path, found: Sequence[Entry], digest: str) -> None:
        self._file = path.open("wb")
        self._parts = Split(found)
        self._digest = digest

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def of(self, entry: Entry) -> ListKeeper:
        """What takes the lists of a pipeline; those of other pipelines' users are let go."""

        def keep(step: int, user_id: str, now_ms: int, items: list[RankedItem]) -> None:
            if self._parts.of(user_id) != entry.name:
                return
            ranked = RankedList(
                list_id=f"{self._digest}/{step}@{entry.name}", user_id=user_id,
                trigger=Trigger(kind="request", topic=self._digest, partition=0, offset=step),
                items=items, model_version=entry.name, variant=entry.name, event_time=now_ms,
                produced_time=now_ms,
            )  # fmt: skip
            self._file.write(encode(ranked) + b"\n")

        return keep
