"""Candidates: small named sources, each with its own idea of what a user may want, and their union.

A source is any object with a `name` and `candidates(context) -> (item_slots, scores)`. It may
return as many as it likes: its best ones join the union, and all its scores describe them there.
A package adds one by the entry-point group `recsys.candidates`; settings choose by name.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from models.ease import Ease
from models.history import RECENT_SIZE
from models.item_knn import FOLLOWS, LONG, SHORT, ItemKnn
from models.mf import VectorModel
from models.popularity import Popularity
from models.profile import Profile
from recsys.item_state import ItemState
from recsys.settings import SettingsError
from recsys.sources import (
    Category,
    EaseWeights,
    Learned,
    LooksAlike,
    Newest,
    Own,
    Popular,
    ReadsAlike,
)
from recsys.speakers import Reading, Source
from recsys.vectors import ProductVectors

ENTRY_POINTS = "recsys.candidates"
REASONS = {
    "factors": "liked by users who like {item}",
    "profile": "close to your profile, most of all to {item}",
}


class UnknownSourceError(SettingsError):
    """A source was asked for that neither this package nor an installed one has."""


def readings_of_lists(knn: ItemKnn) -> list[Source]:
    """The ways in which neighbour lists are read; those that go furthest back stand last."""
    much = "goes with much of what you had, most of all with {item}"
    along = "lately chosen along with {item}"
    return [
        Reading(knn, "knn-newest", "goes with {item}", room=1, share=0.5),
        Reading(knn, "sequence", "often follows {item}", FOLLOWS, True, 3, 0.5),
        Reading(knn, "knn-long", "goes with {item}"),
        Reading(knn, "knn-short", "lately goes with {item}", SHORT),
        Reading(knn, "knn-share", along, SHORT, True, RECENT_SIZE, 0.97),
        Reading(knn, "knn-history", much, LONG, False, RECENT_SIZE, 0.97),
    ]


def built_in(items: ItemState, vectors: ProductVectors) -> dict[str, Source]:
    """The sources that come with the recommender, by name."""
    popularity = next(model for model in items.models if isinstance(model, Popularity))
    sources: list[Source] = []
    for model in items.models:
        if isinstance(model, ItemKnn):
            sources += readings_of_lists(model)
        elif isinstance(model, VectorModel):
            reason = REASONS.get(model.name, "goes with {item}")
            sources.append(Learned(model, reason, not isinstance(model, Profile)))
        elif isinstance(model, Ease):
            sources.append(EaseWeights(model))
    sources += [
        Popular(popularity, 2),
        Popular(popularity, 0, "trending", "in demand right now"),
        Own(),
        Category(popularity),
        ReadsAlike(),
        Newest(),
        LooksAlike(vectors),
    ]
    return {source.name: source for source in sources}


def plugged_in() -> dict[str, Callable[[], Source]]:
    """Sources that installed packages offer, by name; each is made when it is chosen."""
    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}


def choose_sources(
    names: Sequence[str] | None, items: ItemState, vectors: ProductVectors
) -> tuple[Source, ...]:
    """Sources by name, in that order; without names every built-in one.

    Raises:
        UnknownSourceError: a name that nobody offers.
    """
    own = built_in(items, vectors)
    if names is None:
        return tuple(own.values())
    others = plugged_in() if set(names) - set(own) else {}
    missing = [name for name in names if name not in own and name not in others]
    if missing:
        known = ", ".join([*own, *others])
        told = f"no source is called {missing[0]!r}; there are {known}"
        raise UnknownSourceError(f"rank.sources (RECSYS_RANK__SOURCES): {told}")
    return tuple(own[name] if name in own else others[name]() for name in names)
