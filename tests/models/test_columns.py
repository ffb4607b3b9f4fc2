"""Tables: growth, undo, bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import NONE, Column, Table

COLUMNS = (
    Column("count", "<u4"),
    Column("items", "<i4", 3, refers=True, empty=NONE),
    Column("score", "<f4", 2),
    Column("flag", "<u1"),
    Column("memo", "<i8", derived=True, empty=7),
)


def filled(rows):
    table = Table(COLUMNS)
    for count, item, score in rows:
        slot = table.allocate()
        table["count"][slot] = count
        table["items"][slot, 1] = item
        table["score"][slot] = score
    return table


ROWS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(-1, 9), st.floats(width=32)), max_size=90
)


@given(rows=ROWS)
@settings(deadline=None)
def test_encode_decode_encode_is_identity(rows):
    table = filled(rows)
    keys = np.arange(100, 110, dtype=np.uint64)
    slots = np.arange(len(rows), dtype=np.int32)
    encoded = table.encode(slots, keys)
    other = Table(COLUMNS)
    other.extend(len(rows))
    other.decode(slots, encoded, lambda found: (found - 100).astype(np.int32))
    assert other.encode(slots, keys) == encoded
    assert (other["memo"][slots] == 7).all()


@given(rows=ROWS, writes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 99))), more=ROWS)
@settings(deadline=None)
def test_rollback_restores_rows_slots_and_free_ones(rows, writes, more):
    table = filled(rows)
    if len(rows) > 3:
        table.free(np.array([1, 3], np.int32))
    before = table.rows[: table.size].tobytes(), len(table), table.snapshot()["free"].tolist()
    table.begin()
    for slot, value in writes:
        if slot < table.size:
            table.touch(np.array([slot, slot]))
            table["count"][slot] = value
    for count, *_ in more:
        slot = table.allocate()
        table.touch(np.array([slot]))
        table["count"][slot] = count
    if len(rows) > 5:
        table.free(np.array([4, 5], np.int32))
        assert table["items"][4, 1] == NONE
    table.rollback()
    after = table.rows[: table.size].tobytes(), len(table), table.snapshot()["free"].tolist()
    assert after == before


def test_freed_slots_come_back_blank_after_the_commit():
    table = filled([(5, 1, 1.0)] * 4)
    table.begin()
    table.free(np.array([2], np.int32))
    assert table.allocate() == 4  # not before the commit: a rollback must find the row
    table.commit()
    assert table.allocate() == 2
    assert table["count"][2] == 0
    assert len(table) == 5


def test_dirty_slots_are_listed_once():
    table = filled([(0, 1, 1.0)] * 5)
    assert table.dirty().tolist() == []
    table.begin()
    table.touch(np.array([3, 1, 3]))
    assert table.dirty().tolist() == [3, 1]
    table.commit()
    table.begin()
    assert table.dirty().tolist() == []
    table.commit()


def test_growth_keeps_rows():
    table = filled([(n, n % 5, 0.5) for n in range(1000)])
    assert table["count"][:1000].tolist() == list(range(1000))
    assert len(table) == 1000
    assert table.memory_bytes >= 1000 * table.row_bytes


def test_snapshots_come_back():
    table = filled([(n, 1, 0.5) for n in range(10)])
    table.free(np.array([4], np.int32))
    other = Table(COLUMNS)
    other.restore(table.snapshot())
    assert other.rows[:10].tobytes() == table.rows[:10].tobytes()
    assert len(other) == 9
    assert other.allocate() == 4
    with pytest.raises(ValueError, match="width"):
        Table([Column("count", "<u4")]).restore(table.snapshot())


def test_rows_of_a_wrong_length_are_refused():
    table = filled([(1, 1, 1.0)])
    with pytest.raises(ValueError, match="bytes"):
        table.decode(np.array([0], np.int32), [b"short"], lambda keys: keys.astype(np.int32))
