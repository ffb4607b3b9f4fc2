"""Features against their definitions, told in plain numpy."""

import numpy as np
import pytest

from models.popularity import Popularity
from recsys.board import Unions
from streams.events import Product
from tests.recsys.logs import START_S, Event, World

DAY = 86_400
NOW_S = START_S + 40 * DAY


@pytest.fixture(scope="module")
def seen():
    """Features of four items for a user, by name: values of shape (4,)."""
    world = World()
    for item, category, brand, price in [
        ("tea", "drinks", "x", 4.0), ("milk", "drinks", "y", 2.0), ("nail", "tools", None, None),
    ]:  # fmt: skip
        world.catalogue.put(Product(item_id=item, category=category, brand=brand, price=price))
    world.learn(
        [Event("u", "tea", "purchase", START_S + day * DAY) for day in (0, 10, 20)]
        + [Event("u", "nail", "view", START_S + 30 * DAY), Event("v", "milk", "view", START_S)]
    )
    context = world.pipeline.context_for(world.users, world.users.find("u"), NOW_S * 1000, 10)
    items = np.array(
        [world.items.slot(name) for name in ("tea", "milk", "nail", "unheard of")], np.int32
    )
    context = world.pipeline.context_for(world.users, world.users.find("u"), NOW_S * 1000, 10)
    sources = len(world.pipeline.sources)
    scores = np.zeros((4, sources), np.float32)
    scores[:, 0] = [1.0, 2.0, 0.0, 4.0]
    found = np.array([1, 1, 0, 3], np.uint32)
    features = world.pipeline.rank.features
    values = features.of(context.alone(), Unions(items, scores, found, np.array([0, 4])))
    assert values.shape == (4, len(features))
    assert np.isfinite(values).all()
    assert len(set(features.names)) == len(features.names)
    return dict(zip(features.names, values.T, strict=True)) | {"sources": sources}


def test_sources(seen):
    first = "knn-newest"
    np.testing.assert_allclose(seen[f"{first}:share"], [0.25, 0.5, 0, 1])
    np.testing.assert_allclose(seen["prior"], np.array([0.25, 0.5, 0, 1]) / seen["sources"], 1e-5)
    np.testing.assert_array_equal(seen["found-by"], [1, 1, 0, 2])


def test_item_history(seen):
    np.testing.assert_allclose(seen["events"], np.log1p([3, 1, 1, 0]), 1e-5)
    np.testing.assert_allclose(seen["users"], np.log1p([1, 1, 1, 0]), 1e-5)
    np.testing.assert_allclose(seen["age"], np.log1p([40, 40, 10, 0]), 1e-4)
    np.testing.assert_allclose(seen["idle"], np.log1p([20, 40, 10, 0]), 1e-4)
    half_life = Popularity().config.half_lives_events[0]
    np.testing.assert_allclose(
        seen[f"popularity:{half_life:g}"], np.log1p([3, 0.25, 0.25, 0]), rtol=2e-2
    )


def test_own_history(seen):
    np.testing.assert_array_equal(seen["had"], [1, 0, 1, 0])
    np.testing.assert_allclose(seen["had:count"], np.log1p([3, 0, 1, 0]), 1e-5)
    np.testing.assert_allclose(seen["had:ago"], np.log1p([20, 0, 10, 0]), 1e-4)
    rhythm = np.log((20 * DAY + 3600) / (10 * DAY + 3600))
    np.testing.assert_allclose(seen["had:rhythm"], [rhythm, 0, 0, 0], 1e-4)
    np.testing.assert_allclose(seen["had:weight"], [3, 0, 0.25, 0])
    np.testing.assert_allclose(seen["had:recency"], [0.5, 0, 1, 0])


def test_user(seen):
    np.testing.assert_allclose(seen["user:events"], np.log(5), 1e-5)
    np.testing.assert_allclose(seen["user:items"], np.log(3), 1e-5)
    np.testing.assert_allclose(seen["user:ago"], np.log(11), 1e-4)
    np.testing.assert_allclose(seen["user:repeats"], 0.5, 1e-5)


def test_product(seen):
    nail, tea = 0.25, 0.8  # weights of the query: the newest first
    drinks, tools = tea / (tea + nail), nail / (tea + nail)
    np.testing.assert_allclose(seen["same-category"], [drinks, drinks, tools, 0], 1e-4)
    np.testing.assert_allclose(seen["same-brand"], [drinks, 0, 0, 0], 1e-4)
    np.testing.assert_allclose(seen["price"], [0, np.log(0.5), 0, 0], atol=1e-5)
    np.testing.assert_allclose(seen["price:off"], [0, np.log(2), 0, 0], atol=1e-5)
    np.testing.assert_array_equal(seen["listed"], [1, 1, 1, 0])
