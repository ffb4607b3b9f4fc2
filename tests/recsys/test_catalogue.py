"""The catalogue: products in columns, filters, removal."""

import numpy as np
import pytest

from recsys.catalogue import NEWEST, Catalogue
from recsys.item_state import ItemState
from recsys.pipeline import default_models
from streams.events import CandidateFilter, Product

PRODUCTS = [
    Product(item_id="a", title="Apple", category="fruit", price=1.0, brand="x"),
    Product(item_id="b", title="Pear", category="fruit", price=2.5),
    Product(item_id="c", title="Hammer", category="tools", price=20.0, available=False),
    Product(item_id="d"),
]


@pytest.fixture
def catalogue():
    catalogue = Catalogue(ItemState(default_models()))
    for product in PRODUCTS:
        catalogue.put(product)
    return catalogue


def chosen(catalogue, **conditions):
    mask = catalogue.select(CandidateFilter(**conditions))
    return {catalogue.items.ids.names[slot] for slot in np.flatnonzero(mask)}


def test_filters_hold_all_their_conditions(catalogue):
    assert chosen(catalogue) == {"a", "b", "c", "d"}
    assert chosen(catalogue, categories=["fruit"]) == {"a", "b"}
    assert chosen(catalogue, categories=["fruit", "tools"], price_min=2) == {"b", "c"}
    assert chosen(catalogue, price_max=2.5) == {"a", "b"}
    assert chosen(catalogue, items=["a", "d", "nobody"]) == {"a", "d"}
    assert chosen(catalogue, exclude=["a", "nobody"]) == {"b", "c", "d"}
    assert chosen(catalogue, categories=["unheard of"]) == set()
    assert chosen(catalogue, items=[]) == set()


def test_a_change_replaces_and_a_removal_takes_away(catalogue):
    catalogue.put(Product(item_id="a", title="Anvil", category="tools", price=99.0))
    assert chosen(catalogue, categories=["fruit"]) == {"b"}
    assert chosen(catalogue, categories=["tools"]) == {"a", "c"}
    assert catalogue.title(catalogue.items.find("a")) == "Anvil"
    catalogue.remove("a")
    catalogue.remove("a")
    catalogue.remove("nobody")
    assert chosen(catalogue, categories=["tools"]) == {"c"}
    assert not catalogue.lists("a")
    assert not catalogue.available[catalogue.items.find("a")]
    assert len(catalogue) == 3
    catalogue.put(PRODUCTS[0])
    assert catalogue.lists("a")
    assert catalogue.available[catalogue.items.find("a")]


def test_a_removal_holds_for_what_is_heard_of_later(catalogue):
    catalogue.remove("later")  # a tombstone alone is left, and read before the items' state
    slot = catalogue.items.slot("later")
    assert not catalogue.available[slot]
    assert "later" not in {catalogue.items.ids.names[at] for at in catalogue.newest().tolist()}
    catalogue.put(Product(item_id="later"))
    assert catalogue.available[slot]


def test_what_it_does_not_hold_is_available_and_named_by_its_id(catalogue):
    slot = catalogue.items.slot("zebra")
    catalogue.reserve()
    assert catalogue.available[slot]
    assert catalogue.title(slot) == "zebra"
    assert not catalogue.lists("zebra")


def test_the_newest_are_bounded_and_first_listed_last(catalogue):
    for n in range(NEWEST + 10):
        catalogue.put(Product(item_id=f"p{n}"))
    newest = catalogue.newest()
    assert len(newest) == NEWEST
    assert catalogue.items.ids.names[newest[0]] == f"p{NEWEST + 9}"
    catalogue.put(Product(item_id="p50", title="changed"))
    assert catalogue.newest()[0] == newest[0]


def test_titles_with_braces_do_no_harm(catalogue):
    slot = catalogue.put(Product(item_id="q", title="{item} {0}"))
    assert catalogue.title(slot) == "{item} {0}"
