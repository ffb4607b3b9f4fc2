"""Each offset belongs to exactly one generation, however a lane came to know its switches."""

from hypothesis import given
from hypothesis import strategies as st

from recsys.settings import MAIN
from recsys.switches import Control, Switches, input_name, promoted
from tests.records import record

TOPIC = "shop.behaviour.v1"
NAMES = st.sampled_from(["main", "v2", "v3"])
switches_of_a_log = st.dictionaries(st.integers(0, 99), NAMES, max_size=6)


def owner(log, offset):
    before = [at for at in log if at <= offset]
    return log[max(before)] if before else MAIN


@given(switches_of_a_log, st.randoms())
def test_an_offset_belongs_to_the_last_marker_at_or_before_it(log, rng):
    switches = Switches()
    met = list(log.items())
    rng.shuffle(met)
    for offset, name in met + met[:2]:  # a chunk may be applied again
        switches.add(TOPIC, offset, name)
    assert [switches.live(TOPIC, at) for at in range(101)] == [owner(log, at) for at in range(101)]
    assert switches.latest(TOPIC) == owner(log, 100)
    assert switches.live("shop.requests.v1", 50) == MAIN


@given(switches_of_a_log, st.integers(0, 99))
def test_what_the_control_topic_says_and_what_the_lane_met_add_up(log, split):
    control, lane = Control(), Switches()
    for offset, name in log.items():
        (control.of(3) if offset < split else lane).add(TOPIC, offset, name)
    restored = Switches()
    restored.load_records(control.of(3).dirty_records())
    restored.load_records(lane.snapshot())
    assert [restored.live(TOPIC, at) for at in range(101)] == [owner(log, at) for at in range(101)]


@given(st.dictionaries(st.integers(0, 4), switches_of_a_log, max_size=4))
def test_a_lane_of_a_mirror_knows_each_partition_by_its_name(logs):
    control, lane = Control(), Switches()
    for partition, log in logs.items():
        for offset, name in log.items():
            control.of(partition).add(TOPIC, offset, name)
    lane.load_records(control.records())
    again = Switches()
    again.load_records(lane.snapshot())
    for switches in (lane, again):
        for partition in range(5):
            at, log = input_name(TOPIC, partition), logs.get(partition, {})
            assert [switches.live(at, n) for n in range(101)] == [owner(log, n) for n in range(101)]
    assert lane.live(TOPIC, 50) == MAIN


def test_only_an_empty_record_with_the_header_is_a_marker():
    headers = [("recsys-promote", b"v2")]
    assert promoted(record(None, key=None, headers=headers)) == "v2"
    assert promoted(record(b"{}", key=None, headers=headers)) is None
    assert promoted(record(None, key=b"u1", headers=headers)) is None
    assert promoted(record(None, key=None)) is None
