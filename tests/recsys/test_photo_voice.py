"""What a user's photos do to their lists and to their profile."""

import numpy as np
import pytest

from models.mapping import ImageMapping
from models.profile import Profile
from recsys.board import Candidates
from recsys.photos import DAY_MS, Photo, Photos
from recsys.pipeline import Pipeline, PipelineConfig
from recsys.rank import Scored, hear_photo
from recsys.sources import LooksAlike
from recsys.vectors import ProductVectors
from streams.events import CandidateFilter, ItemEmbedding, Product, RecommendationRequest
from tests.recsys.logs import START_S, Event, World


def scored(ranker, likeness):
    items = np.arange(len(ranker), dtype=np.int32)
    said = np.stack([np.zeros(len(ranker)), likeness], axis=1).astype(np.float32)
    candidates = Candidates(items, said, np.zeros(len(ranker), np.uint32))
    return Scored(candidates, np.zeros((len(ranker), 1), np.float32), np.array(ranker, np.float32))


def test_a_photo_just_sent_leads_and_the_ranker_breaks_its_ties():
    heard = hear_photo(scored([0.1, 0.0, 0.3, 0.2], [0.9, 0.9, 0.1, 0.0]), 1, 1.0)
    assert np.argsort(-heard.scores)[:2].tolist() == [0, 1]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_scale_of_the_rankers_scores_does_not_matter(scale):
    before = np.array([0.5, 0.4, -0.3, 0.2]) * scale
    heard = hear_photo(scored(before, [0.1, 0.2, 0.9, 0.0]), 1, 1.0)
    assert np.argmax(heard.scores) == 2


def test_a_faded_photo_is_silent():
    before = scored([0.5, 0.4, -0.3, 0.2], [0.1, 0.2, 0.9, 0.0])
    assert np.allclose(hear_photo(before, 1, 0.0).scores, before.scores)
    assert np.argmax(hear_photo(before, 1, 0.05).scores) == 0


def test_a_photo_that_tells_nothing_apart_changes_nothing():
    before = scored([0.5, 0.4], [0.3, 0.3])
    assert hear_photo(before, 1, 1.0) is before
    level = hear_photo(scored([0.0, 0.0], [0.1, 0.9]), 1, 1.0)
    assert level.scores[1] > level.scores[0]


NOW_MS = START_S * 1000
TURNED = {"hat-0": 0, "hat-1": 20, "hat-2": 40, "shoe-0": 10, "shoe-1": 30, "shoe-2": 180}


def towards(degrees):
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def photo_of(degrees, category="", weight=1.0):
    return Photo("e@1", NOW_MS, 1, towards(degrees), category=category, weight=weight)


@pytest.fixture
def world():
    """Six products whose pictures are directions; the refit's factors are those directions too."""
    world = World()
    vectors = ProductVectors(world.items, "e@1")
    for item_id, degrees in TURNED.items():
        category = item_id.split("-")[0]
        world.catalogue.put(
            Product(item_id=item_id, title=item_id, category=category, available=item_id != "hat-1")
        )
        vector = towards(degrees).tobytes()
        vectors.put(ItemEmbedding(item_id=item_id, encoder="e@1", vector=vector))
    config = PipelineConfig(sources=("image", "profile"))
    world.pipeline = Pipeline(config, world.items, world.catalogue, vectors)
    factors = np.zeros((len(TURNED), 32), np.float32)
    factors[:, :2] = [towards(TURNED[world.items.ids.names[n]]) for n in range(len(TURNED))]
    world.items.swap_factors("als-1", world.items.ids.keys.copy(), factors)
    into = np.zeros((2, 32), np.float32)
    into[[0, 1], [0, 1]] = 1
    zeros = np.zeros(2, np.float32)
    world.pipeline.mapping = ImageMapping(zeros, into, np.zeros(32, np.float32), 0.0)
    return world


def lines(world, photo, k=3, **asked):
    request = RecommendationRequest(user_id="u", request_id="r", **asked) if asked else None
    ranked = world.pipeline.recommend(world.users, -1, NOW_MS, k, request, photo)
    return world.pipeline.explain(ranked)


def of_image(found):
    return [line.item_id for line in found if "image" in line.sources]


def test_what_looks_alike_comes_first_and_says_so(world):
    found = lines(world, photo_of(0))
    assert [line.item_id for line in found] == ["hat-0", "shoe-0", "shoe-1"]
    assert found[0].reason == "looks like your photo"


def test_the_photos_category_is_a_filter_and_in_the_reason(world):
    found = lines(world, photo_of(0, category="shoe"))
    assert of_image(found)[:2] == ["shoe-0", "shoe-1"]
    assert not {"hat-0", "hat-1", "hat-2"} & set(of_image(found))
    assert found[0].reason == "looks like your photo (shoe)"
    unheard_of = lines(world, photo_of(0, category="umbrella"))
    assert of_image(unheard_of)[0] == "hat-0", "a category the catalogue lacks is no filter"


def test_a_photo_without_a_category_is_not_of_the_category_without_a_name(world):
    world.catalogue.put(Product(item_id="shoe-1", title="shoe-1", category=""))
    assert [line.item_id for line in lines(world, photo_of(0))] == ["hat-0", "shoe-0", "shoe-1"]


def test_a_requests_filter_holds_for_photos_too(world):
    found = lines(world, photo_of(0), filter=CandidateFilter(categories=["shoe"]))
    assert [line.item_id for line in found][:2] == ["shoe-0", "shoe-1"]
    assert all(line.item_id.startswith("shoe") for line in found)


def test_likeness_is_the_cosine_times_what_the_photo_still_counts(world):
    context = world.pipeline.context_for(world.users, -1, NOW_MS, 3, None, photo_of(0, weight=0.5))
    source = LooksAlike(world.pipeline.vectors)
    slots, said = source.candidates(context)
    by_item = dict(zip([world.items.ids.names[slot] for slot in slots], said, strict=True))
    assert by_item["shoe-0"] == pytest.approx(0.5 * np.cos(np.radians(10)), abs=1e-5)
    assert "shoe-2" not in by_item, "the opposite is not alike"


def test_a_photo_moves_the_profile_with_its_half_life(world):
    world.learn([Event("u", "hat-0", "view", START_S)])
    user = world.users.find("u")
    profile = next(model for model in world.items.models if isinstance(model, Profile))
    photos = Photos(half_life_days=2)
    photos.see("u", "e@1", NOW_MS, towards(90))

    def angle(days):
        heard = photos.of("u", NOW_MS + days * DAY_MS, "e@1")
        context = world.pipeline.context_for(world.users, user, NOW_MS, 3, None, heard)
        vector = profile.user_vector(world.items.tables[profile.name], context.query)
        return float(np.degrees(np.arctan2(vector[1], vector[0])))

    assert angle(0) == pytest.approx(45, abs=0.1)
    assert angle(2) == pytest.approx(np.degrees(np.arctan(0.5)), abs=0.1)
    assert angle(30) == pytest.approx(0, abs=0.1)


def test_the_association_of_photo_and_profile_passes_a_threshold(world):
    world.learn([Event("u", "hat-0", "view", START_S)])
    user = world.users.find("u")
    near = world.pipeline.association(world.users, user, photo_of(30))
    assert near == pytest.approx(np.cos(np.radians(30)), abs=1e-3)
    assert world.pipeline.association(world.users, user, photo_of(80)) == 0
    assert world.pipeline.association(world.users, -1, photo_of(0)) == 0, "nothing is known of them"
