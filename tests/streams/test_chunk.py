"""Chunks: cutting one anywhere loses nothing, doubles nothing and leaves no gap."""

from hypothesis import given
from hypothesis import strategies as st

from streams.chunk import Chunk, Position
from tests.records import record

OFFSETS = st.sets(st.integers(10, 60), min_size=2).map(sorted)


def a_chunk(offsets, released=None):
    records = [record(b"x", offset=offset) for offset in offsets]
    return Chunk(Position("t", 0), 10, records, released or (lambda: None), behind=7)


@given(OFFSETS, st.data())
def test_a_split_leaves_no_gap(offsets, data):
    released = []
    chunk = a_chunk(offsets, lambda: released.append(1))
    count = data.draw(st.integers(1, len(offsets) - 1))
    head, rest = chunk.split(count)
    assert head.records + rest.records == chunk.records
    assert (head.start, rest.start, rest.end) == (chunk.start, head.end, chunk.end)
    assert head.end + head.behind == rest.end + rest.behind == chunk.end + 7
    head.release()
    assert released == []
    rest.release()
    assert released == [1]


@given(OFFSETS, st.integers(0, 70))
def test_since_drops_what_took_effect(offsets, position):
    rest = a_chunk(offsets).since(position)
    assert [r.offset for r in rest.records] == [o for o in offsets if o >= position]
    assert rest.start == max(10, position)
    assert rest.behind == 7
