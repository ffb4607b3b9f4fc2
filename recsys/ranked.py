"""A ranked list, and what it says for itself: the sources of each item and the reason for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.columns import NONE, Slots
from models.kernels import kernel
from recsys.candidates import Context, Source, Speaker
from recsys.catalogue import Catalogue
from recsys.rank import Scored
from streams.events import RankedItem

# The lead of an item that no source brought: what brought it instead, with its reason.
FILLED, BY_RULE, EXPLORED = -1, -2, -3
BROUGHT_BY = {
    FILLED: ("fill", "to fill the list: popular or new"),
    BY_RULE: ("rule", "put here by a rule of the shop"),
    EXPLORED: ("explore", "new: tried out here"),
}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A list: k items, best first, each with the sources that found it and what carried it."""

    items: Slots  # (k,)
    scores: NDArray[np.float32]  # (k,)
    found: NDArray[np.uint32]  # (k,), bit s: source s
    lead: NDArray[np.int8]  # (k,), the source that counts most for it, below 0: BROUGHT_BY
    carriers: Slots  # (k,), the past item behind it, -1: none
    propensity: NDArray[np.float32]  # (k,), how likely the item was to be shown at its place
    model_version: str
    photo_category: str = ""
    variant: str = "default"

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(
        cls, speakers: Sequence[Speaker], context: Context, scored: Scored,
        chosen: NDArray[np.intp], model_version: str,
    ) -> "Ranked":  # fmt: skip
        """The chosen candidates in their order; `speakers` has who speaks in each column.

        Of the sources that found an item, the one leads whose score of it is the largest share of
        its highest; that source names the past item which gave most of the score.
        """
        candidates = scored.candidates
        items, found = candidates.items[chosen], candidates.found[chosen]
        lead = np.empty(len(items), np.int8)
        _leads(candidates.scores, candidates.found, chosen, lead)
        carriers = np.full(len(items), NONE, np.int32)
        for speaker in dict.fromkeys(speakers[column] for column in lead.tolist()):
            speaker.carry(context, items, lead, carriers)
        category = context.photo.category if context.photo else ""
        return cls(
            items, scored.scores[chosen], found, lead, carriers, np.ones(len(items), np.float32),
            model_version, category,
        )  # fmt: skip

    def filled_up(self, more: Slots) -> "Ranked":
        """With items at its end that no source brought."""
        count = len(more)
        lowest = self.scores.min(initial=0.0)
        steps = np.arange(1, count + 1, dtype=np.float32)
        return Ranked(
            np.concatenate([self.items, more]),
            np.concatenate([self.scores, lowest - steps * np.float32(1e-4)]),
            np.concatenate([self.found, np.zeros(count, np.uint32)]),
            np.concatenate([self.lead, np.full(count, FILLED, np.int8)]),
            np.concatenate([self.carriers, np.full(count, NONE, np.int32)]),
            np.concatenate([self.propensity, np.ones(count, np.float32)]),
            self.model_version,
            self.photo_category,
            self.variant,
        )

    def with_propensity(self, place: int, propensity: float) -> "Ranked":
        """With the item at a place being as likely as that."""
        changed = self.propensity.copy()
        changed[place] = propensity
        return replace(self, propensity=changed)

    def with_item(self, place: int, item: int, lead: int, propensity: float) -> "Ranked":
        """With an item at a place that no source brought there."""
        parts = {
            "items": item, "found": 0, "lead": lead, "carriers": NONE, "propensity": propensity,
        }  # fmt: skip
        changed = {}
        for name, value in parts.items():
            changed[name] = getattr(self, name).copy()
            changed[name][place] = value
        return replace(self, **changed)

    def explain(self, sources: Sequence[Source], catalogue: Catalogue) -> list[RankedItem]:
        """The list as it goes out."""
        names, titles = catalogue.items.ids.names, catalogue.title
        of_what = f" ({self.photo_category})" if self.photo_category else ""
        found_by = {
            each: [source.name for s, source in enumerate(sources) if each >> s & 1]
            for each in set(self.found.tolist())
        }
        phrases = {
            lead: str(getattr(sources[lead], "reason", sources[lead].name))
            for lead in set(self.lead.tolist())
            if lead >= 0
        }
        lines: list[RankedItem] = []
        columns = (
            self.items, self.scores.astype(np.float64).round(6), self.found, self.lead,
            self.carriers, self.propensity.astype(np.float64).round(9),
        )  # fmt: skip
        for slot, score, each, lead, carrier, propensity in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            if lead < 0:
                brought_by, reason = BROUGHT_BY[lead]
                found = [brought_by]
            else:
                found = found_by[each]
                title = titles(carrier) if carrier != NONE else "it"
                reason = phrases[lead].format(item=title, photo=of_what)
            place = len(lines) + 1
            lines.append(RankedItem(names[slot] or "", score, place, found, reason, propensity))
        return lines


@kernel
def _leads(scores: Any, found: Any, chosen: Any, lead: Any) -> None:
    sources = scores.shape[1]
    highest = np.full(sources, np.float32(1e-12))
    for row in range(len(scores)):
        for s in range(sources):
            highest[s] = max(highest[s], scores[row, s])
    for at in range(len(chosen)):
        row, most = chosen[at], np.float32(-1.0)
        for s in range(sources):
            share = scores[row, s] / highest[s]
            if (found[row] >> np.uint32(s)) & np.uint32(1) and share > most:
                lead[at], most = s, share
