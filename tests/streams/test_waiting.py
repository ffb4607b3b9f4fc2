"""What a round takes of what waits: in its order, and what is urgent before a backlog."""

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.chunk import Chunk, Position
from streams.waiting import Waiting
from tests.records import record

EVENTS, ASKED = Position("events", 0), Position("asked", 0)
START = {EVENTS: 0, ASKED: 0}


def chunk(source, first, count, freed=None):
    records = [record(b"x", topic=source.topic, offset=first + n) for n in range(count)]
    into = [] if freed is None else freed
    return Chunk(source, first, records, lambda: into.append(first))


def places(chunks):
    return [(each.source.topic, r.offset) for each in chunks for r in each.records]


def test_with_room_all_goes_in_the_order_it_came():
    waiting = Waiting(frozenset({"asked"}))
    for each in (chunk(EVENTS, 0, 2), chunk(ASKED, 0, 1), chunk(EVENTS, 2, 2)):
        waiting.put(each)
    assert waiting.records == 5
    assert places(waiting.take(10, START)) == [
        ("events", 0), ("events", 1), ("asked", 0), ("events", 2), ("events", 3),
    ]  # fmt: skip
    assert not len(waiting)


def test_what_is_urgent_passes_a_backlog_and_takes_half_at_most():
    waiting = Waiting(frozenset({"asked"}))
    for each in (chunk(EVENTS, 0, 50), chunk(ASKED, 0, 20)):
        waiting.put(each)
    assert places(waiting.take(10, START)) == [
        *(("events", n) for n in range(5)), *(("asked", n) for n in range(5)),
    ]  # fmt: skip


def test_what_is_left_lies_behind_what_is_taken():
    waiting = Waiting()
    for first in (0, 30):
        waiting.put(chunk(EVENTS, first, 30))
    waiting.put(chunk(ASKED, 0, 3))
    last = chunk(EVENTS, 60, 30)
    last.behind = 500
    waiting.put(last)
    taken = waiting.take(40, START)
    assert [(each.end, each.behind) for each in taken] == [(30, 560), (40, 550)]
    taken = waiting.take(60, {EVENTS: 40, ASKED: 0})
    behind = {each.source: each.behind for each in taken}
    assert behind == {EVENTS: 500 + 90 - taken[-1].end, ASKED: 0}


def test_what_was_read_before_is_freed_and_a_gap_is_read_again():
    freed, again = [], []
    waiting = Waiting()
    waiting.put(chunk(EVENTS, 0, 3, freed))
    gap = chunk(ASKED, 8, 2, freed)
    gap.rewind = again.append
    waiting.put(gap)
    assert places(waiting.take(10, {EVENTS: 2, ASKED: 4})) == [("events", 2)]
    assert (freed, again) == ([], [])
    waiting.let_go()
    assert freed == [8]  # the round frees the other when it ends
    assert again == [4]


@given(
    st.lists(st.tuples(st.sampled_from([EVENTS, ASKED]), st.integers(1, 30)), max_size=8),
    st.lists(st.integers(1, 25), min_size=1),
    st.data(),
)
def test_every_record_is_taken_once_and_in_its_partitions_order(given_chunks, rooms, data):
    waiting, positions, put, freed, took = Waiting(frozenset({"asked"})), dict(START), {}, [], []
    for source, count in given_chunks:
        first = put.get(source, 0)
        waiting.put(chunk(source, first, count, freed))
        put[source] = first + count
    while len(waiting):
        room = data.draw(st.sampled_from(rooms))
        chunks = waiting.take(room, positions)
        if data.draw(st.booleans()):  # its transaction failed
            waiting.put_back(chunks)
            chunks = waiting.take(room, positions)
        assert 0 < sum(len(each.records) for each in chunks) <= room
        for each in chunks:
            assert each.start == positions[each.source]
            positions[each.source] = each.end
            each.release()
        took += places(chunks)
    for source, count in put.items():
        mine = [offset for topic, offset in took if topic == source.topic]
        assert mine == list(range(count))


@pytest.fixture
def switching():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_what_is_put_while_another_thread_takes_is_not_lost(switching):
    count, waiting, position, took = 3_000, Waiting(), {EVENTS: 0}, []

    def put_all() -> None:
        for at in range(count):
            waiting.put(chunk(EVENTS, 2 * at, 2))

    putting = threading.Thread(target=put_all)
    putting.start()
    while len(took) < 2 * count and (putting.is_alive() or len(waiting)):
        for taken in waiting.take(3, position):
            took += [r.offset for r in taken.records]
            position[EVENTS] = taken.end
    putting.join()
    assert took == list(range(2 * count))
