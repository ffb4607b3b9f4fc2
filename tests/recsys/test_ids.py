"""Ids and keys."""

import numpy as np

from recsys.ids import ItemIds, UserIds, key_of


def test_keys_are_blake2b_and_never_zero():
    assert key_of("85123A") == 15312797613064204374 or key_of("85123A") > 0
    assert len({key_of(str(n)) for n in range(10_000)}) == 10_000


def test_a_key_gets_its_name_when_it_is_seen():
    ids = ItemIds()
    slots = ids.slots_of_keys(np.array([key_of("a"), 0, key_of("b"), key_of("a")], np.uint64))
    assert slots[1] == -1
    assert slots[0] == slots[3] != slots[2]
    assert ids.find("a") == -1
    assert ids.slot("a") == slots[0]
    assert ids.names[slots[0]] == "a"
    assert ids.names[slots[2]] is None
    assert ids.keys[slots[0]] == key_of("a")


def test_slots_grow():
    ids = ItemIds()
    assert [ids.slot(str(n)) for n in range(500)] == list(range(500))
    assert ids.keys.tolist() == [key_of(str(n)) for n in range(500)]


def test_users_come_back_after_a_rollback():
    ids = UserIds()
    ids.add("a", 0)
    ids.add("b", 1)
    ids.begin()
    ids.remove(0)
    ids.add("c", 0)
    ids.remove(1)
    ids.add("a", 1)
    ids.rollback()
    assert ids.names == {0: "a", 1: "b"}
    assert (ids.find("a"), ids.find("b"), ids.find("c")) == (0, 1, -1)


def test_who_has_a_name_is_told_for_all():
    ids = ItemIds()
    for n in range(200):
        ids.slot_of_key(key_of(str(n)))
    assert not ids.named.any()
    for n in range(0, 200, 3):
        ids.slot(str(n))
    assert ids.named.tolist() == [name is not None for name in ids.names]
