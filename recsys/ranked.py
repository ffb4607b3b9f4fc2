"""A ranked list, and what it says for itself: the sources of each item and the reason for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.columns import NONE, Slots
from models.kernels import kernel
from recsys.board import Unions
from recsys.catalogue import Catalogue
from recsys.contexts import Contexts
from recsys.speakers import Source, Speaker
from streams.events import CERTAIN, RankedItem

# The lead of an item that no source brought: what brought it instead, with its reason.
FILLED, BY_RULE, EXPLORED = -1, -2, -3
COMBINATIONS_MAX = 4_096
TITLE_MAX = 100  # characters of a past item's title in a reason
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
    def of_all(
        cls, speakers: Sequence[Speaker], contexts: Contexts, unions: Unions, scores: Scores,
        chosen: NDArray[np.intp], starts: NDArray[np.int64], variants: Sequence[str],
        model_version: str,
    ) -> "list[Ranked]":  # fmt: skip
        """The chosen rows of each list in their order; list i's are [starts[i], starts[i + 1]).

        There may be contexts of others behind theirs, of which nothing is chosen.
        Of the sources that found an item, the one leads whose score of it is the largest share of
        its highest; that source names the past item which gave most of the score.
        """
        count = len(chosen)
        items, lead = unions.items[chosen], np.empty(count, np.int8)
        _leads(unions.scores, unions.found, unions.starts, chosen, starts, lead)
        carriers, certain = np.full(count, NONE, np.int32), np.ones(count, np.float32)
        leading = set(lead.tolist())
        others = np.full(len(contexts) + 1 - len(starts), count, np.int64)
        bounds = np.concatenate([starts, others])
        for speaker in speakers:
            if not leading.isdisjoint(speaker.columns):
                speaker.carry(contexts, items, bounds, lead, carriers)
        scores, found = scores[chosen], unions.found[chosen]
        parts = [slice(*bounds) for bounds in pairwise(starts.tolist())]
        return [
            cls(
                items[part], scores[part], found[part], lead[part], carriers[part], certain[part],
                model_version, photo.category if photo else "", variant,
            )
            for part, photo, variant in zip(
                parts, contexts.photos[: len(parts)], variants, strict=True
            )
        ]  # fmt: skip

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

    def explain(self, sayings: "Sayings", catalogue: Catalogue) -> list[RankedItem]:
        """The list as it goes out."""
        names, titles, leads = catalogue.items.ids.names, catalogue.title, self.lead.tolist()
        phrases = {lead: sayings.phrase(lead, self.photo_category) for lead in set(leads)}
        columns = (
            self.items.tolist(), self.scores.astype(np.float64).round(6).tolist(),
            self.found.tolist(), leads, self.carriers.tolist(), self.propensity.tolist(),
        )  # fmt: skip
        lines: list[RankedItem] = []
        for slot, score, found, lead, carrier, propensity in zip(*columns, strict=True):
            before, item, after = phrases[lead]
            if item:
                item = (_short(titles(carrier)) if carrier != NONE else "") or "it"
            by = sayings.found_by(found) if lead >= 0 else [BROUGHT_BY[lead][0]]
            likely = CERTAIN if propensity == 1.0 else round(propensity, 9)
            reason = f"{before}{item}{after}"
            lines.append(RankedItem(names[slot] or "", score, len(lines) + 1, by, reason, likely))
        return lines


def _short(title: str) -> str:
    """Of a length for a reason, and without what moves a terminal's cursor."""
    if not title.isprintable():
        title = "".join(letter if letter.isprintable() else " " for letter in title)
    return title if len(title) <= TITLE_MAX else f"{title[: TITLE_MAX - 1]}…"


class Sayings:
    """What sources are called and say for their items, worked out once."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._names = [source.name for source in sources]
        self._reasons = [str(getattr(source, "reason", source.name)) for source in sources]
        self._found_by: dict[int, list[str]] = {}

    def found_by(self, found: int) -> list[str]:
        """The names of sources, bit s: source s. For reading only."""
        known = self._found_by.get(found)
        if known is None:
            if len(self._found_by) >= COMBINATIONS_MAX:
                self._found_by.clear()
            known = [name for s, name in enumerate(self._names) if found >> s & 1]
            self._found_by[found] = known
        return known

    def phrase(self, lead: int, photo_category: str = "") -> tuple[str, str, str]:
        """What is said of items with this lead: before the past item's title, if any, and after."""
        if lead < 0:
            return BROUGHT_BY[lead][1], "", ""
        of_what = f" ({photo_category})" if photo_category else ""
        return self._reasons[lead].replace("{photo}", of_what).partition("{item}")


@kernel
def _leads(scores: Any, found: Any, starts: Any, chosen: Any, bounds: Any, lead: Any) -> None:
    sources = scores.shape[1]
    highest = np.empty(sources, np.float32)
    for n in range(len(starts) - 1):
        highest[:] = np.float32(1e-12)
        for row in range(starts[n], starts[n + 1]):
            for s in range(sources):
                highest[s] = max(highest[s], scores[row, s])
        for at in range(bounds[n], bounds[n + 1]):
            row, most = chosen[at], np.float32(-1.0)
            for s in range(sources):
                share = scores[row, s] / highest[s]
                if (found[row] >> np.uint32(s)) & np.uint32(1) and share > most:
                    lead[at], most = s, share
