"""Ranking: the candidates' features, the network's scores, and examples for it to learn from."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.kernels import kernel
from models.ranker import Ranker, RankerConfig
from recsys.board import Candidates, Unions
from recsys.contexts import Contexts
from recsys.features import Features
from recsys.item_updates import Example


@dataclass(frozen=True)
class RankConfig:
    """How the ranker learns.

    Args:
        train_share_min: share of steps (a basket is one) that become examples in the long run.
        train_lists_full: until the ranker learned so many lists n every step does; then the share
            falls as 1 / n^4. Lists are counted and not events, for a basket's events make one.
        train_looks_full: the same of steps n that were looked at. Where few answers are among the
            candidates, a look at every step costs more than the rare list to learn is worth.
        train_candidates: candidates of an example that are kept.
    """

    train_share_min: float = 0.01
    train_lists_full: int = 10_000
    train_looks_full: int = 25_000
    train_candidates: int = 80
    ranker: RankerConfig = field(default_factory=RankerConfig)

    def train_share(self, lists: int, looks: int) -> float:
        """Share of steps that become examples once the ranker learned `lists` of so many looks."""
        of_lists = self.train_lists_full / max(lists, 1)
        of_looks = self.train_looks_full / max(looks, 1)
        return min(1.0, max(self.train_share_min, min(of_lists, of_looks) ** 4))


@dataclass(frozen=True, slots=True)
class Scored:
    """A list's candidates with what the ranker saw and said of them."""

    candidates: Candidates
    features: NDArray[np.float32]  # (c, features)
    scores: Scores  # (c,)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredLists:
    """The same of several lists, one behind the other."""

    unions: Unions
    features: NDArray[np.float32]  # (rows, features)
    scores: Scores  # (rows,)

    def __len__(self) -> int:
        return len(self.unions)

    def to(self, number: int) -> Scored:
        """One of them."""
        part = self.unions.part(number)
        return Scored(self.unions.to(number), self.features[part], self.scores[part])


PHOTO_VOICE = 2.0  # of a photo just sent, beside the ranker's 1


def hear_photo(scored: Scored, source: int, weight: float) -> Scored:
    """Lets a photo speak beside the ranker: both in their own standard deviations.

    Uploads are too rare for the ranker to learn from, so what `source` says of the likeness of
    each candidate is added to its scores, as loud as the photo still is (`weight`, 0 to 1).
    """
    likeness = scored.candidates.scores[:, source]
    spread = float(likeness.std())
    if not spread > 0:
        return scored
    voice = PHOTO_VOICE * weight * (float(scored.scores.std()) or 1.0)
    heard = scored.scores + voice * (likeness - likeness.mean()) / spread
    return Scored(scored.candidates, scored.features, heard.astype(np.float32))


class Rank:
    """Scores candidates with the online ranker."""

    def __init__(self, config: RankConfig, features: Features) -> None:
        self.config = config
        self.features = features
        self.ranker = Ranker(len(features), config.ranker, features.sources, features.prior)

    def score(self, contexts: Contexts, unions: Unions) -> ScoredLists:
        """Score some lists' candidates."""
        features = self.features.of(contexts, unions)
        return ScoredLists(unions, features, self.ranker.scores_of_all(features, unions.starts))

    def example(self, scored: Scored, chosen_items: NDArray[np.int32]) -> Example:
        """What the ranker can learn of a list whose answer is known: nothing if that is not in it.

        Kept are the chosen, the best of the others, and some spread over the rest.
        """
        rows = np.empty(max(self.config.train_candidates, 1), np.int64)
        count, answers = _example(
            scored.candidates.items, scored.scores, chosen_items, np.argsort(-scored.scores), rows
        )
        if not answers:
            count = 0
        features = np.nan_to_num(scored.features[rows[:count]]).clip(-60_000, 60_000)
        return Example(features.astype(np.float16), np.arange(answers, dtype=np.int32))


@kernel
def _example(items: Any, scores: Any, chosen: Any, order: Any, rows: Any) -> tuple[int, int]:
    """Pick rows: the chosen, three quarters of the rest from the best, the others evenly spread."""
    count, others = 0, 0
    for at in range(len(order)):
        row = order[at]
        is_chosen = False
        for item in chosen:
            is_chosen |= items[row] == item
        if is_chosen and count < len(rows):
            rows[count] = row
            count += 1
        elif not is_chosen:
            order[others] = row
            others += 1
    answers, room = count, len(rows) - count
    best = others if others <= room else room * 3 // 4
    rows[count : count + best] = order[:best]
    count += best
    if others > room:
        spread = room - best
        for n in range(spread):
            rows[count] = order[best + n * (others - 1 - best) // max(spread - 1, 1)]
            count += 1
    return count, answers
