"""Scoring: what all sources find for some lists, and the ranker's scores of it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from recsys.board import Board, Unions
from recsys.contexts import Contexts
from recsys.rank import Rank, ScoredLists, hear_photo
from recsys.speakers import Source, speakers_of

SHARED_LISTS_MIN = 24  # with fewer two threads wait for each other longer than one takes


class Scorer:
    """Asks the sources and the ranker, for many lists on two threads if it may.

    Args:
        shared: whether another thread may help.
    """

    def __init__(self, sources: Sequence[Source], rank: Rank, shared: bool) -> None:
        self.speakers = speakers_of(sources)
        self.rank = rank
        self._board = Board([getattr(source, "share", 1.0) for source in sources])
        names = [source.name for source in sources]
        self._image = names.index("image") if "image" in names else None
        self._helper = ThreadPoolExecutor(1, "lists") if shared else None

    def close(self) -> None:
        """End the other thread, if there is one."""
        if self._helper is not None:
            self._helper.shutdown()

    def unions(self, contexts: Contexts) -> Unions:
        """For each list the union of what all sources find."""
        self._board.open(contexts.usable, contexts.queries.limits)
        for speaker in self.speakers:
            speaker.speak(contexts, self._board)
        unions = self._board.unions()
        for speaker in self.speakers:
            speaker.describe(contexts, unions)
        return unions

    def score(self, contexts: Contexts) -> list[ScoredLists]:
        """The lists' candidates with their scores, in one part or in two."""
        count = len(contexts)
        if self._helper is None or count < SHARED_LISTS_MIN:
            return [self.score_part(contexts)]
        half = count // 2
        others = self._helper.submit(self.score_part, contexts.part(half, count))
        return [self.score_part(contexts.part(0, half)), others.result()]

    def score_part(self, contexts: Contexts) -> ScoredLists:
        """The lists' candidates with their scores, on this thread."""
        lists = self.rank.score(contexts, self.unions(contexts))
        if self._image is not None and any(contexts.photos):
            for number, photo in enumerate(contexts.photos):
                if photo is not None:
                    heard = hear_photo(lists.to(number), self._image, photo.weight)
                    lists.scores[lists.unions.part(number)] = heard.scores
        return lists
