"""Photos: the newest are loudest, what is kept is what is logged, a round can be taken back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.photos import DAY_MS, SUFFIX, Photos
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from streams import codec
from streams.chunk import Chunk, Position
from streams.events import ForgetUser
from tests.records import NOW_MS, record
from tests.recsys.logs import World

ENCODER = "small@1"


def unit(*numbers):
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def test_an_upload_moves_the_vector_by_its_age():
    photos = Photos(half_life_days=1.0)
    photos.see("u", ENCODER, 0, unit(1, 0))
    moved = photos.see("u", ENCODER, DAY_MS, unit(0, 1))
    assert moved.uploads == 2
    np.testing.assert_allclose(moved.vector, unit(0.5, 1), atol=2e-3)
    assert photos.of("u", 2 * DAY_MS, ENCODER).weight == pytest.approx(0.5)


def test_photos_fade_and_those_of_another_encoder_never_meet():
    photos = Photos(half_life_days=1.0)
    photos.see("u", ENCODER, 0, unit(1, 0))
    assert photos.of("u", 7 * DAY_MS, ENCODER) is None
    assert photos.of("u", 0, "other@1") is None
    fresh = photos.see("u", "other@1", 0, unit(0, 1))
    assert fresh.uploads == 1
    np.testing.assert_allclose(fresh.vector, [0, 1])


def test_the_one_seen_longest_ago_gives_way():
    photos = Photos(users_max=2)
    photos.begin()
    for user in "abc":
        photos.see(user, ENCODER, 0, unit(1, 0))
    assert len(photos) == 2
    assert dict(photos.dirty_records())[b"a" + SUFFIX] is None


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 10 * DAY_MS), st.integers(0, 3)),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_the_log_gives_the_same_photos_and_rollback_leaves_no_trace(uploads, undone_from):
    vectors = [unit(1, 0, 0), unit(0, 1, 0), unit(1, 1, 1), unit(-1, 2, 0)]
    photos, restored = Photos(), Photos()
    for number, (user, time_ms, which) in enumerate(uploads):
        photos.begin()
        photos.see(user, ENCODER, time_ms, vectors[which], 0.5)
        if number >= undone_from:
            photos.rollback()
            continue
        restored.load_records(photos.dirty_records())
        photos.commit()
    assert sorted(photos.snapshot()) == sorted(restored.snapshot())


def test_forgetting_leaves_a_tombstone_and_another_version_is_refused():
    photos = Photos()
    photos.see("u", ENCODER, 0, unit(1, 0))
    ((key, value),) = photos.snapshot()
    photos.begin()
    photos.forget("u")
    assert photos.dirty_records() == [(key, None)]
    with pytest.raises(ValueError, match="version 7"):
        Photos().load_records([(key, b"\x07" + value[1:])])


def test_a_sweep_takes_the_photos_of_those_who_are_not_known_any_more():
    photos = Photos()
    for user, day in (("old", 1), ("known", 1), ("late", 9)):
        photos.see(user, ENCODER, day * DAY_MS, unit(1, 0))
    photos.begin()
    photos.sweep(5 * DAY_MS, {"known"}.__contains__)
    assert [key for key, value in photos.dirty_records() if value is None] == [b"old" + SUFFIX]
    assert len(photos) == 2


def test_a_late_photo_counts_by_its_age_too():
    late, early = Photos(half_life_days=1.0), Photos(half_life_days=1.0)
    late.see("u", ENCODER, 3 * DAY_MS, unit(1, 0))
    late.see("u", ENCODER, 0, unit(0, 1))
    early.see("u", ENCODER, 0, unit(0, 1))
    early.see("u", ENCODER, 3 * DAY_MS, unit(1, 0))
    np.testing.assert_allclose(late.newest("u").vector, early.newest("u").vector, atol=1e-3)
    assert late.newest("u").time_ms == 3 * DAY_MS


def test_forgetting_one_who_only_sent_photos_renews_the_snapshot():
    lanes = UserLanes(World().pipeline, UserLanesConfig(partitions=1))
    state = lanes.open(0)
    state.photos.see("u", ENCODER, 0, unit(1, 0))
    request = codec.encode(ForgetUser(user_id="u", timestamp=NOW_MS))
    source = Position("recsys.forget.v1", 0)
    for expected in (True, False):
        state.begin()
        outcome = lanes.apply(
            0, state, [Chunk(source, 0, [record(request, b"u", source.topic, 0)])]
        )
        state.commit()
        assert outcome.forgets == expected
