"""Why a list does not hold what its sources found: a reason for each candidate left out."""

from dataclasses import dataclass

import numpy as np

from models.base import Scores
from models.columns import Slots
from recsys.contexts import Context
from recsys.pipeline import Pipeline
from recsys.rerank import RerankConfig, groups_of, most_of, shown_in_vain
from recsys.user_state import UserState

GROUPS = ("category", "brand", "price band")


@dataclass(frozen=True, slots=True)
class Removed:
    """A candidate that is not in the list: its place by the ranker alone, and what kept it out."""

    slot: int
    place: int
    reason: str


def removed(
    pipeline: Pipeline, users: UserState, user_slot: int, now_ms: int, k: int = 10
) -> list[Removed]:
    """Every candidate that is not in a user's list of now, the best first.

    The sources are asked a second time as if everything might be listed, so that what may not be is
    seen too.
    """
    listed = pipeline.policy(users, user_slot, now_ms, k).ranked.items
    context = pipeline.context_for(users, user_slot, now_ms, k)
    rerank = pipeline.variant_of(users, user_slot).rerank
    items, scores = _all(pipeline, context, rerank)
    discount = shown_in_vain(rerank, users, user_slot, items, float(context.now_s))
    order = np.argsort(discount - scores, kind="stable")
    out = []
    for place, at in enumerate(order.tolist(), 1):
        slot = int(items[at])
        if slot in listed:
            continue
        reason = barred(pipeline, context, rerank, slot)
        if reason is None and discount[at] > 0 and (scores - discount > scores[at]).sum() < k:
            reason = "shown before and not acted on"
        out.append(
            Removed(slot, place, reason or _beaten(pipeline, rerank, listed, slot, place, k))
        )
    return out


def reason_of(
    pipeline: Pipeline, users: UserState, user_slot: int, now_ms: int, slot: int, k: int = 10
) -> str | None:
    """Why an item is not in a user's list of now; None where it is in it."""
    policy = pipeline.policy(users, user_slot, now_ms, k)
    if slot in policy.ranked.items:
        return None
    context = pipeline.context_for(users, user_slot, now_ms, k)
    rerank = pipeline.variant_of(users, user_slot).rerank
    kept_out = barred(pipeline, context, rerank, slot)
    if kept_out is not None:
        return kept_out
    found = [each for each in removed(pipeline, users, user_slot, now_ms, k) if each.slot == slot]
    return found[0].reason if found else "no source has it among its best"


def barred(pipeline: Pipeline, context: Context, rerank: RerankConfig, slot: int) -> str | None:
    """What forbids an item in a list, whatever its rank; None where nothing does."""
    past, catalogue = context.history, pipeline.catalogue
    if not pipeline.items.ids.named[slot]:
        return "forgotten: nobody has touched it for long"
    if not catalogue.available[slot]:
        return "not available" if catalogue.listed[slot] else "taken off the catalogue"
    rule = pipeline.rules.reason(catalogue, slot)
    if rule is not None:
        return f"excluded by the rule {rule!r}"
    mine = np.flatnonzero(past.items == slot)
    if len(mine) and past.weights[mine[0]] <= 0:
        return "disliked or given back"
    if len(mine) and not rerank.repeats and past.types[mine[0]] & rerank.had_mask:
        return "had before"
    return None


def _all(pipeline: Pipeline, context: Context, rerank: RerankConfig) -> tuple[Slots, Scores]:
    """What sources found, then what else they find where every item may be listed; and scores."""
    alone = context.alone()
    free = alone.with_usable(np.ones_like(alone.usable))
    real, more = (pipeline.scorer.score(part)[0].to(0) for part in (alone, free))
    other = ~np.isin(more.candidates.items, real.candidates.items)
    items = np.concatenate([real.candidates.items, more.candidates.items[other]])
    said = np.concatenate([real.scores, more.scores[other]])
    lifts = [rerank.lift(len(context.history.items))]
    scores = pipeline.lifted(lifts, items, np.array([0, len(items)]), said)
    rules = pipeline.rules.over(pipeline.catalogue)
    return items, scores if rules is None else scores + rules.boost[items]


def _beaten(
    pipeline: Pipeline, rerank: RerankConfig, listed: Slots, slot: int, place: int, k: int
) -> str:
    names = pipeline.items.ids.names
    alike = np.intersect1d(pipeline.vectors.twins.of(np.array([slot], np.int32)), listed)
    if len(alike):
        return f"its picture shows the same as {names[int(alike[0])]}"
    own = groups_of(pipeline.catalogue, np.array([slot], np.int32))[0]
    held = groups_of(pipeline.catalogue, listed)
    for name, group, share, held_of in zip(GROUPS, own, rerank.caps, held.T, strict=True):
        if share < 1.0 and group >= 0 and (held_of == group).sum() >= most_of(share, k):
            return f"enough of its {name}"
    if place <= k:
        return "gave its place to another: for diversity, to a rule, or to a new item"
    return f"ranked {place}, below the list's {k}"
