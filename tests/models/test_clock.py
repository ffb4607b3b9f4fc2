"""The activity clock and the units of decayed sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.clock import CHECKPOINTS, ActivityClock, era_of, era_shift, weight_at


@given(times=st.lists(st.integers(1, 2000), min_size=1, max_size=400), cut=st.integers(0, 400))
@settings(deadline=None)
def test_chunks_do_not_change_the_clock(times, cut):
    times = np.array(times, np.uint32)
    whole, parts = ActivityClock(), ActivityClock()
    expected = whole.advance(times)
    got = np.concatenate([parts.advance(times[:cut]), parts.advance(times[cut:])])
    np.testing.assert_array_equal(got, expected)
    assert whole.now == len(times)
    assert (expected <= np.arange(1, len(times) + 1)).all()


def test_in_order_events_count_up():
    clock = ActivityClock()
    times = np.arange(1, 10 * CHECKPOINTS, dtype=np.uint32)
    np.testing.assert_array_equal(clock.advance(times), np.arange(1, 10 * CHECKPOINTS))


def test_late_events_read_the_clock_of_their_own_time():
    clock = ActivityClock()
    count = 20 * CHECKPOINTS
    clock.advance(np.arange(1000, 1000 + count, dtype=np.uint32))
    for share in (0.1, 0.5, 0.9):
        late = clock.advance(np.array([1000 + int(share * count)], np.uint32))[0]
        assert late == pytest.approx(share * count, abs=count / 50)
    assert clock.advance(np.array([5], np.uint32))[0] <= count / 50


def test_it_comes_back_from_its_arrays():
    clock, other = ActivityClock(), ActivityClock()
    clock.advance(np.arange(1, 900, dtype=np.uint32))
    other.load(clock.arrays())
    later = np.array([2000, 300], np.uint32)
    np.testing.assert_array_equal(clock.advance(later), other.advance(later))


@given(
    half_life=st.floats(1, 1e6),
    start=st.floats(0, 1e9),
    gaps=st.lists(st.floats(0, 50), min_size=1, max_size=30),
)
@settings(deadline=None)
def test_sums_in_eras_equal_plain_exponential_decay(half_life, start, gaps):
    clock, total, era, expected = start, 0.0, 0, 0.0
    for gap in gaps:  # in half-lives
        clock += gap * half_life
        now_era = era_of(clock, half_life)
        if now_era > era:
            total *= era_shift(era, now_era)
            era = now_era
        total += weight_at(clock, half_life, era)
        expected = expected * 2.0**-gap + 1.0
    assert total / weight_at(clock, half_life, era) == pytest.approx(expected, rel=1e-4)
    assert total < 2**18


def test_without_a_half_life_nothing_fades():
    assert era_of(1e12, 0.0) == 0
    assert weight_at(1e12, 0.0, 0) == 1.0


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_few_events_ahead_of_all_stop_the_clock_for_a_while_only(ahead):
    behind = np.zeros(20_000)
    for first in range(5_000, 5_064):  # not every event lays a checkpoint
        times = np.arange(20_000, dtype=np.uint32)
        times[first : first + ahead] += 86_400
        counted = ActivityClock().advance(times)
        behind = np.maximum(behind, np.arange(1, len(times) + 1) - counted)
    assert behind[:6_000].max() > 500
    assert behind[7_000:].max() == 0


def test_a_log_of_the_past_counts_as_what_it_is_however_long():
    clock = ActivityClock()
    clock.advance(np.arange(20_000, dtype=np.uint32))
    past = clock.advance(np.arange(2_000, 12_000, dtype=np.uint32))
    assert np.abs(past - np.arange(2_000, 12_000)).max() < 200
