"""User and item state: chunking, records, rollback, snapshots, forgetting."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import history
from recsys import state_format, user_state
from recsys.ids import UserIds
from recsys.item_state import ItemState
from recsys.pipeline import EVENT_WEIGHTS, default_models
from recsys.state_format import StateError
from recsys.user_state import DAY_S, StateLimits, UserState
from streams.partition import partition_of
from tests.recsys.logs import START_S, Event, World, batch_of, chunks, logs, seeded_log

SMALL = StateLimits(entries_max=64)


def oracle(log, entries_max):
    """What a user's state must be, told in plain dictionaries."""
    users = {}
    for event in log:
        user = users.setdefault(
            event.user, {"events": 0, "seen": [], "entries": {}, "first": None, "last": 0}
        )
        if event.event_id is not None:
            if event.event_id in user["seen"][-history.EVENT_KEYS_SIZE :]:
                continue
            user["seen"].append(event.event_id)
        user["events"] += 1
        user["first"] = min(user["first"] or event.time_s, event.time_s)
        user["last"] = max(user["last"], event.time_s)
        weight = EVENT_WEIGHTS[event.type]
        if event.type == "rating" and event.value is not None:
            weight *= 0.5 + 0.5 * min(max(event.value / 5, 0.1), 1.0)
        if weight == 0:
            continue
        entries = user["entries"]
        if event.item not in entries and len(entries) == entries_max:
            oldest = min(entries.values(), key=lambda entry: entry["last"])["item"]
            del entries[oldest]
        entry = entries.setdefault(
            event.item,
            {"item": event.item, "count": 0, "first": event.time_s, "last": 0, "weight": 0,
             "types": set()},
        )  # fmt: skip
        entry["count"] += 1
        entry["first"] = min(entry["first"], event.time_s)
        entry["last"] = max(entry["last"], event.time_s)
        weight = round(weight * history.WEIGHT_UNIT)
        entry["types"].add(event.type)
        after = entry["weight"] + weight
        some_stay = entry["types"] <= {"purchase", "return"} and after >= -weight
        if weight < 0 and not some_stay:
            after = min(entry["weight"], weight)
        elif weight > 0 and entry["weight"] < 0 <= after:
            after = weight
        entry["weight"] = after
    return users


def check_against_oracle(world, log, entries_max=64):
    expected = oracle(log, entries_max)
    for user_id, user in expected.items():
        slot = world.users.find(user_id)
        assert world.users.heads["events"][slot] == user["events"]
        assert world.users.heads["first_s"][slot] == user["first"]
        assert world.users.heads["last_s"][slot] == user["last"]
        past = world.users.history(slot)
        entries = user["entries"]
        assert {world.items.ids.names[item] for item in past.items} == set(entries)
        for at, item in enumerate(past.items):
            entry = entries[world.items.ids.names[item]]
            assert past.counts[at] == entry["count"]
            assert past.first_s[at] == entry["first"]
            assert past.last_s[at] == entry["last"]
            assert past.weights[at] * history.WEIGHT_UNIT == entry["weight"]
        newest = past.last_s[past.recent]
        assert (np.diff(newest.astype(np.int64)) <= 0).all()
        assert len(set(past.recent.tolist())) == len(past.recent)
        rest = np.setdiff1d(np.arange(len(past.items)), past.recent)
        assert len(past.recent) == min(len(past.items), history.RECENT_SIZE)
        if len(rest):
            assert past.last_s[rest].max() <= newest.min()


@given(log=logs())
@settings(max_examples=60, deadline=None)
def test_history_equals_plain_dictionaries(log):
    world = World(limits=SMALL)
    world.learn(log)
    check_against_oracle(world, log)


def test_a_long_history_keeps_the_newest_items():
    rng = np.random.default_rng(0)
    times = START_S + rng.permutation(400)
    log = [
        Event("u", f"i{rng.integers(150)}", "purchase", int(time), None) for time in times.tolist()
    ]
    for size in (1, 7, 400):
        world = World(limits=SMALL)
        for start in range(0, len(log), size):
            world.learn(log[start : start + size])
        past = world.users.history(world.users.find("u"))
        assert len(past.items) == 64
        assert len(set(past.items.tolist())) == 64
        assert len(past.recent) == history.RECENT_SIZE


@given(log=logs(), cuts=st.lists(st.integers(0, 1000), max_size=8))
@settings(max_examples=60, deadline=None)
def test_chunks_never_change_the_state_or_its_rows(log, cuts):
    whole, cut = World(limits=SMALL), World(limits=SMALL)
    rows_whole = dict(whole.learn(log)[0])
    rows_cut = {}
    for chunk in chunks(log, cuts):
        rows_cut.update(cut.learn(chunk)[0])
    assert rows_whole == rows_cut
    assert whole.users.digest() == cut.users.digest()
    assert whole.items.digest() == cut.items.digest()


@given(log=logs())
@settings(max_examples=40, deadline=None)
def test_records_read_back_are_the_same_bytes(log):
    world = World(limits=SMALL)
    user_records, item_records = world.learn(log)
    again = World(limits=SMALL)
    other, users = again.items, again.users
    users.load_records(reversed(user_records))  # pages may come before their head
    assert sorted(users.records()) == sorted(user_records)
    assert users.digest() == world.users.digest()
    other.load_records(item_records)
    assert {k: v for k, v in other.records() if k in dict(item_records)} == dict(item_records)
    assert other.digest() == world.items.digest()
    assert users.digest() == world.users.digest()


@given(first=logs(), second=logs())
@settings(max_examples=40, deadline=None)
def test_rollback_restores_every_byte(first, second):
    world = World(limits=SMALL)
    world.learn(first)
    users, items = world.users, world.items
    heads = users.heads.rows[: users.heads.size].tobytes()
    pages = users.pages.rows[: users.pages.size].tobytes()
    before = (users.digest(), items.digest(), sorted(users.records()), sorted(items.records()))
    ids = dict(users.ids.names)
    users.begin()
    items.begin()
    world.pipeline.fold(world.pipeline.learn(users, batch_of(users, second)))
    users.rollback()
    items.rollback()
    assert users.heads.rows[: users.heads.size].tobytes() == heads
    assert users.pages.rows[: users.pages.size].tobytes() == pages
    assert users.ids.names == ids
    after = dict(items.records())
    assert {key: after[key] for key, _ in before[3]} == dict(before[3])
    assert (users.digest(), items.digest(), sorted(users.records())) == before[:3]
    # What is learned next is as if nothing had happened.
    other = World(limits=SMALL)
    other.learn(first)
    assert other.learn(second)[0] == world.learn(second)[0]
    assert other.users.digest() == users.digest()


@given(log=logs())
@settings(max_examples=30, deadline=None)
def test_an_event_id_counts_once(log):
    named = [
        Event(event.user, event.item, event.type, event.time_s, f"{event.user}-{n}")
        for n, event in enumerate(log[: history.EVENT_KEYS_SIZE])
    ]
    once, twice = World(), World()
    once.learn(named)
    twice.learn(named + named)
    twice.learn(named)
    assert once.users.digest() == twice.users.digest()
    assert once.items.digest() == twice.items.digest()


@given(log=logs(), cuts=st.lists(st.integers(0, 1000), max_size=4))
@settings(max_examples=30, deadline=None)
def test_item_counts_do_not_depend_on_the_order_of_lanes(log, cuts):
    world = World()
    updates = [
        world.pipeline.learn(world.users, batch_of(world.users, chunk))
        for chunk in chunks(log, cuts)
    ]
    digests = set()
    for order in (updates, updates[::-1]):
        world.items.begin()
        for part in order:
            world.pipeline.fold(part)
        digests.add(world.items.digest())
        world.items.rollback()
    assert len(digests) == 1


def test_snapshots_come_back_in_another_process():
    world = World()
    for chunk in chunks(seeded_log(300), [100, 200]):
        world.learn(chunk)
    items = ItemState(default_models())
    items.slot("another item takes the first slot")
    users = UserState(items)
    users.restore(world.users.snapshot())
    assert users.digest() == world.users.digest()
    assert sorted(users.records()) == sorted(world.users.records())
    again = ItemState(default_models())
    again.restore(world.items.snapshot())
    assert again.digest() == world.items.digest()
    assert dict(again.records())[b"i3"] == dict(world.items.records())[b"i3"]


def test_a_smaller_limit_takes_back_what_a_larger_one_wrote():
    log = [Event("u", f"i{n}", "view", START_S + n) for n in range(1_000)]
    world = World()
    records = world.learn(log)[0]
    read, restored = UserState(world.items, SMALL), UserState(world.items, SMALL)
    read.load_records(records)
    restored.restore(world.users.snapshot())
    pages = len(world.users.pages)
    assert min(len(read.chain), len(restored.chain)) > pages > len(UserState(world.items).chain) / 3
    later = [Event("u", f"i{n}", "view", START_S + 2_000 + n) for n in range(990, 1_010)]
    world.users = read
    world.learn(later)
    past = read.history(read.find("u"))
    assert len(past.items) == 1_000  # no more than there were; the oldest give way
    newest = [world.items.ids.names[slot] for slot in past.items[past.recent[:20]].tolist()]
    assert newest == [f"i{n}" for n in range(1_009, 989, -1)]


def test_inactive_users_go_whatever_the_chunks_and_leave_tombstones():
    limits = StateLimits(entries_max=64, inactive_days_max=10)
    old = [Event(f"old{n}", "i1", "view", START_S, None) for n in range(20)]
    new = [
        Event(f"u{n % 50}", f"i{n % 40}", "view", START_S + 30 * DAY_S + n, None)
        for n in range(5000)
    ]
    late = [Event("old3", "i2", "view", START_S + 30 * DAY_S + 9000, None)]
    digests, records = set(), []
    for size in (97, 5021):
        world = World(limits=limits)
        log = old + new + late
        written = {}
        for start in range(0, len(log), size):
            written.update(world.learn(log[start : start + size])[0])
        digests.add(world.users.digest())
        records.append(written)
        assert world.users.find("old5") == -1
        past = world.users.history(world.users.find("old3"))
        assert [world.items.ids.names[item] for item in past.items] == ["i2"]
        assert len(world.users) == 51
    assert len(digests) == 1
    assert records[0][b"old5\0\0"] is None
    assert records[0][b"old5\0\1"] is None
    restored = UserState(ItemState(default_models()), limits)
    restored.load_records(records[0].items())
    assert {restored.digest()} == digests


def test_whoever_is_forgotten_goes_whole_unless_all_they_did_is_newer():
    world = World()
    world.learn([Event("u", "a", "view", START_S), Event("u", "b", "view", START_S + 1_000)])
    world.learn([Event("v", "a", "view", START_S + 1_000)])
    assert world.users.forget("u", START_S + 500)
    assert world.users.find("u") == -1
    assert not world.users.forget("v", START_S + 500)
    assert world.users.find("v") != -1


def test_a_sweep_looks_at_nobody_while_nobody_can_go(monkeypatch):
    """A million users are not to be looked at every 4,096 events."""
    looked = []
    slots = UserIds.slots
    monkeypatch.setattr(UserIds, "slots", lambda ids: looked.append(1) or slots(ids))
    world = World(limits=StateLimits(entries_max=64, inactive_days_max=2))
    day = [Event(f"u{n}", "i1", "view", START_S + n, None) for n in range(3 * 4096)]
    world.learn(day)
    sweeps = len(looked)
    assert sweeps == 1  # the first, that cannot know
    later = [Event(f"v{n}", "i1", "view", START_S + 4 * DAY_S + n, None) for n in range(2 * 4096)]
    world.learn(later)
    assert len(world.users) == 2 * 4096
    old = [Event("old", "i1", "view", START_S, None)]
    world.learn(old + [replace(event, user="w") for event in later[:4095]])
    assert world.users.find("old") == -1


def test_of_too_many_users_those_longest_silent_go():
    world = World(limits=StateLimits(entries_max=64, users_max=10))
    world.learn([Event(f"u{n}", "i1", "view", START_S + n, None) for n in range(4096)])
    assert len(world.users) == 10
    assert world.users.find("u4095") >= 0
    assert world.users.find("u4085") == -1
    assert world.users.pages.size - len(world.users.pages) == 4086  # their pages are free again


def test_a_tombstone_takes_pages_away():
    world = World(limits=SMALL)
    log = [Event("u", f"i{n}", "view", START_S + n, None) for n in range(40)]
    world.learn(log)
    users = UserState(world.items, SMALL)
    users.load_records(world.users.records())
    users.load_record(b"u\0\3", None)
    assert len(users._chain(users.find("u"))) == 2
    users.load_record(b"u\0\0", None)
    assert users.find("u") == -1
    assert len(users.pages) == 0


def test_unknown_versions_are_refused():
    world = World()
    world.learn(seeded_log(5))
    for key, value in world.users.records():
        with pytest.raises(StateError, match="version"):
            UserState(world.items).load_record(key, b"\x63" + value[1:])
    key, value = world.users.records()[1]
    with pytest.raises(StateError, match="bytes"):
        UserState(world.items).load_record(key, value[:-1])
    snapshot = world.users.snapshot() | {"version": np.array([9])}
    with pytest.raises(StateError, match="version"):
        UserState(world.items).restore(snapshot)


@settings(max_examples=25, deadline=None)
@given(log=logs(users=12), counts=st.tuples(st.integers(1, 3), st.integers(4, 9)))
def test_the_number_of_partitions_changes_nothing_of_a_user(log, counts):
    """What a replay into topics with another number of partitions rests on."""

    def rows(partitions: int) -> dict[bytes, bytes | None]:
        world, found = World(), {}
        for number in range(partitions):
            world.users = UserState(world.items)
            mine = [e for e in log if partition_of(e.user.encode(), partitions) == number]
            if mine:
                world.learn(mine)
            found |= {k: v for k, v in world.users.records() if k != user_state.LANE_KEY}
        return found

    assert rows(counts[0]) == rows(counts[1])


def test_a_newer_worker_takes_over_what_an_older_one_wrote(monkeypatch):
    world = World()
    world.learn(seeded_log(5))
    older_users, older_items = world.users.records(), world.items.records()
    digests = world.users.digest(), world.items.digest()

    def newer() -> tuple[ItemState, UserState]:
        items = ItemState(default_models())
        items.load_records(older_items)
        users = UserState(items)
        users.load_records(older_users)
        return items, users

    # Two versions later: in between, heads had four bytes more.
    now = state_format.VERSION
    longer = {
        ("head", now): lambda body: body + b"more",
        ("head", now + 1): lambda body: body.removesuffix(b"more"),
    }
    monkeypatch.setattr(state_format, "VERSION", now + 2)
    monkeypatch.setattr(state_format, "UPGRADES", longer)
    items, users = newer()
    rows = [value for _, value in users.records() + items.records()]
    assert {value[0] for value in rows} == {now + 2}
    monkeypatch.setattr(state_format, "VERSION", now)
    assert (users.digest(), items.digest()) == digests
    monkeypatch.setattr(state_format, "VERSION", now + 2)

    written = users.records()
    monkeypatch.setattr(state_format, "VERSION", now)  # and the older one says that it cannot
    with pytest.raises(StateError, match=f"state of version {now + 2:02x}, this reads {now}"):
        UserState(items).load_records(written)


def test_transactions_do_not_nest_and_records_need_one():
    world = World()
    world.users.begin()
    with pytest.raises(RuntimeError, match="already open"):
        world.users.begin()
    world.users.commit()
    with pytest.raises(RuntimeError, match="no transaction"):
        world.users.commit()
    with pytest.raises(RuntimeError, match="no transaction"):
        world.users.dirty_records()
    with pytest.raises(RuntimeError, match="no transaction"):
        world.items.dirty_records()


def test_a_user_fits_into_the_budget():
    users = UserState(ItemState(default_models()))
    assert users.heads.row_bytes + users.pages.row_bytes <= 700
    items = ItemState(default_models())
    assert items.memory()["row_bytes"] <= 3000


def test_factors_are_swapped_in_by_version():
    world = World()
    world.learn(seeded_log(50))
    keys = world.items.ids.keys.copy()
    factors = np.random.default_rng(0).normal(size=(len(keys), 32)).astype(np.float32)
    world.items.swap_factors("v7", keys[::-1], factors)
    assert world.pipeline.model_version == "v7"
    np.testing.assert_array_equal(world.items.tables["factors"]["vector"][0], factors[-1])
    with pytest.raises(ValueError, match="32"):
        world.items.swap_factors("v8", keys, factors[:, :5])
    assert world.pipeline.model_version == "v7"


def test_idle_items_leave_the_log_and_come_back_when_they_are_wanted():
    world = World()
    world.learn([Event("u1", "old", "purchase", 1_700_000_000, None, None)])
    world.learn([Event("u1", "new", "purchase", 1_790_000_000, None, None)])
    copy = World()
    copy.items.load_records(world.items.records())
    world.items.begin()
    assert world.items.sweep(1_750_000_000) == 1
    changes = dict(world.items.dirty_records())
    assert changes[b"old"] is None
    assert b"new" not in changes
    world.items.commit()
    copy.items.load_records(changes.items())
    assert copy.items.digest() == world.items.digest()
    assert world.items.tables["popularity"]["events"][world.items.find("old")] == 0
    world.items.begin()
    world.items.sweep(1_795_000_000)
    world.items.rollback()
    assert copy.items.digest() == world.items.digest()
    world.learn([Event("u2", "old", "view", 1_790_000_100, None, None)])
    assert world.items.tables["popularity"]["events"][world.items.find("old")] == 1


def test_a_sweep_that_is_taken_back_leaves_no_trace():
    world = World()
    world.learn([Event("u1", "old", "purchase", 1_700_000_000)])
    world.learn([Event("u1", "new", "purchase", 1_790_000_000)])
    before = world.items.records()
    direction = world.items.tables["profile"]["vector"][:2].copy()
    world.items.begin()
    world.items.sweep(1_750_000_000)
    world.items.slot("newer")
    world.items.rollback()
    assert world.items.records()[:3] == before[:3]
    np.testing.assert_array_equal(world.items.tables["profile"]["vector"][:2], direction)
    world.items.begin()
    world.items.sweep(1_750_000_000)
    world.items.commit()
    np.testing.assert_array_equal(world.items.tables["profile"]["vector"][:2], direction)
    assert world.items.tables["profile"]["vector"][2].any()


def test_a_restarted_worker_lists_nothing_that_has_no_id():
    world = World()
    world.learn([Event(f"u{n}", "old", "purchase", 1_700_000_000 + n) for n in range(9)])
    world.learn([Event(f"u{n}", "new", "purchase", 1_790_000_000 + n) for n in range(9)])
    world.items.begin()
    world.items.sweep(1_750_000_000)
    world.items.commit()
    copy = World()
    copy.items.load_records((k, v) for k, v in world.items.records() if k != b"old")
    copy.users.load_records(world.users.records())
    nameless = copy.items.ids.names.index(None)
    for user in [*(f"u{n}" for n in range(9)), "a stranger"]:
        assert nameless not in copy.recommend(user, 1_790_000_100).items


def test_those_who_began_alike_are_told_apart():
    world = World()
    world.learn([Event(f"u{n}", "i1", "purchase", START_S) for n in range(30)])
    tokens = world.users.heads["token"][world.users.ids.slots()]
    assert len(set(tokens.tolist())) == 30
    again = World()
    for n in range(30):
        again.learn([Event(f"u{n}", "i1", "purchase", START_S)])
    assert again.users.digest() == world.users.digest()


def test_rows_of_the_first_version_get_a_token_and_an_empty_audience():
    world = World()
    world.learn(seeded_log(50))
    row = world.items.tables["audience"].encoded_bytes

    def older(records, cut):
        for key, value in records:
            yield key, bytes([1]) + value[1 : len(value) - cut(key)]

    items = ItemState(default_models())
    clock = {
        key for key, _ in world.items.records() if not world.items.find(key.decode("latin1")) >= 0
    }
    items.load_records(older(world.items.records(), lambda key: 0 if key in clock else row))
    users = UserState(items)
    users.load_records(older(world.users.records(), lambda key: 4 if key.endswith(b"\0\0") else 0))
    tokens = users.heads["token"][users.ids.slots()]
    assert len(tokens) == len(world.users)
    assert tokens.all()
    assert world.items.tables["audience"]["came"].any()
    assert not items.tables["audience"]["came"].any()
    assert items.tables["popularity"]["events"].sum() == 50
