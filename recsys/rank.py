"""Ranking: the candidates' features, the network's scores, and examples for it to learn from."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.base import Scores
from models.ranker import Ranker, RankerConfig
from recsys.candidates import Candidates, Context
from recsys.features import Features
from recsys.item_updates import Example


@dataclass(frozen=True)
class RankConfig:
    """How the ranker learns.

    Args:
        train_share_min: share of steps (a basket is one) that become examples in the long run.
        train_lists_full: until the ranker learned so many lists n every step does; then the share
            falls as 1 / n^2. Lists are counted and not events, for a basket's events make one.
        train_candidates: candidates of an example that are kept.
    """

    train_share_min: float = 0.01
    train_lists_full: int = 20_000
    train_candidates: int = 96
    ranker: RankerConfig = field(default_factory=RankerConfig)

    def train_share(self, lists: int) -> float:
        """Share of steps that become examples once the ranker learned so many lists."""
        return min(1.0, max(self.train_share_min, (self.train_lists_full / max(lists, 1)) ** 2))


@dataclass(frozen=True, slots=True)
class Scored:
    """A list's candidates with what the ranker saw and said of them."""

    candidates: Candidates
    features: NDArray[np.float32]  # (c, features)
    scores: Scores  # (c,)


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
        self.ranker = Ranker(len(features), config.ranker, features.sources)

    def score(self, context: Context, candidates: Candidates) -> Scored:
        """Score a list's candidates."""
        features = self.features.of(context, candidates)
        return Scored(candidates, features, self.ranker.scores(features))

    def example(self, scored: Scored, chosen_items: NDArray[np.int32]) -> Example | None:
        """What the ranker can learn of a list whose answer is known; None where it held none.

        Kept are the chosen, the best of the others, and some spread over the rest.
        """
        chosen = np.flatnonzero(np.isin(scored.candidates.items, chosen_items))
        if not len(chosen):
            return None
        order = np.argsort(-scored.scores, kind="stable")
        others = order[~np.isin(order, chosen)]
        room = max(self.config.train_candidates - len(chosen), 0)
        best = room * 3 // 4
        spread = others[best:]
        if len(others) > room:
            spread = spread[np.linspace(0, len(spread) - 1, room - best).astype(int)]
        kept = np.concatenate([chosen, others[:best], spread])
        features = np.nan_to_num(scored.features[kept]).clip(-60_000, 60_000)
        return Example(features.astype(np.float16), np.arange(len(chosen), dtype=np.int32))
