"""A mirror copies each record once, in the order of its user; the copy tells what it was."""

from hypothesis import given
from hypothesis import strategies as st

from recsys.mirror import Mirror, copy, original, originals
from streams.chunk import Chunk, Position
from streams.events import HEADER_PLACE
from streams.no_state import NoState
from streams.partition import partition_of
from tests.records import NOW_MS, record

LIVE, OWN, LANES = "shop.behaviour.v1", "shop.wide.behaviour.v1", 5
PROMOTE = [("recsys-promote", b"wide")]
headers = st.lists(
    st.tuples(st.sampled_from(["ce_id", HEADER_PLACE]), st.binary(max_size=8)), max_size=3
)
records = st.lists(
    st.one_of(
        st.builds(
            record, st.binary(max_size=4), key=st.binary(max_size=3), topic=st.just(LIVE),
            headers=headers,
        ),
        st.builds(record, st.just(b"broken"), key=st.none(), topic=st.just(LIVE)),
        st.builds(
            record, st.none(), key=st.none(), topic=st.just(LIVE), headers=st.just(PROMOTE)
        ),
    ),
    max_size=20,
)  # fmt: skip


def numbered(found, partition):
    for offset, each in enumerate(found):
        each.partition, each.offset = partition, offset
    return found


def mirrored(found, partition):
    """What lies in each partition of the mirror after a round."""
    mirror = Mirror("shop", "shop.wide", LANES)
    chunk = Chunk(Position(LIVE, partition), 0, found)
    writes = mirror.apply(partition, NoState(), [chunk] if found else []).writes
    assert all(at.topic == OWN for at in writes)
    return {at.partition: copies for at, copies in writes.items()}


def fetched(copies):
    return [
        record(c.value, c.key, OWN, 4, at, c.timestamp_ms, c.headers) for at, c in enumerate(copies)
    ]


@given(records, st.integers(0, 20))
def test_every_record_comes_once_and_as_it_was_and_markers_come_everywhere(found, partition):
    found = numbered(found, partition)
    taken = []
    for lane, copies in mirrored(found, partition).items():
        back = originals(fetched(copies), LIVE)
        offsets = [each.offset for each in back]
        assert offsets == sorted(set(offsets))
        for each in back:
            assert each == found[each.offset]
            assert each.key is None or partition_of(each.key, LANES) == lane
        taken += offsets
    for each in found:
        everywhere = each.key is None and each.value is None
        assert taken.count(each.offset) == (LANES if everywhere else 1)


def test_a_copy_keeps_the_time_of_the_record():
    assert copy(record(b"x", timestamp=NOW_MS - 5)).timestamp_ms == NOW_MS - 5


def test_a_copy_of_what_has_no_time_tells_so():
    (found,) = numbered([record(b"x", topic=LIVE, timestamp=-1)], 3)
    copied = copy(found)
    assert copied.timestamp_ms is None
    told = record(copied.value, copied.key, OWN, 4, 0, NOW_MS, copied.headers)
    assert original(told, LIVE) == found


def test_what_no_mirror_put_there_is_left_out():
    for given_headers in [[], [("ce_id", b"1/2")], [(HEADER_PLACE, b"1/2"), ("ce_id", b"a")]]:
        assert original(record(b"x", topic=OWN, headers=given_headers), LIVE) is None
    for place in [b"", b"1", b"1/2/3", b"a/b", b"/untimed", None]:
        assert original(record(b"x", topic=OWN, headers=[(HEADER_PLACE, place)]), LIVE) is None
