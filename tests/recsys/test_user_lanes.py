"""The role of the users' lanes, without a broker: which events have their own lists under load."""

import json
from collections import Counter

import numpy as np
import pytest

from recsys import user_lanes
from recsys.photos import DAY_MS
from recsys.user_lane import UserLane
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from streams.application import Outcome
from streams.chunk import Chunk, Position
from tests.records import NOW_MS, body, record
from tests.recsys.logs import World
from tests.recsys.test_owed import everything

LANE = 0
LISTS = Position("recsys.recommendations.v1", LANE)


class Lane:
    """One lane of one partition, fed by hand."""

    def __init__(self, lists_per_s_max: float) -> None:
        config = UserLanesConfig(partitions=1, lists_per_s_max=lists_per_s_max)
        self.world = World()
        self.application = UserLanes(self.world.pipeline, config)
        self.state: UserLane = self.application.open(LANE)
        self.application.opened(LANE, self.state)
        self.end = 0

    def round(self, *users: str, behind: int = 0) -> Outcome:
        """Apply one event of each of `users`, in that order, and commit; so many wait behind."""
        records = [
            record(
                body(user_id=user, item_id=f"i{at % 9}", timestamp=NOW_MS + 1000 * (self.end + at)),
                user.encode(), partition=LANE, offset=self.end + at,
            )
            for at, user in enumerate(users)
        ]  # fmt: skip
        chunks = []
        if records:
            source = Position("recsys.behaviour.v1", LANE)
            chunks = [Chunk(source, self.end, records, behind=behind)]
            self.end = chunks[0].end
        self.state.begin()
        outcome = self.application.apply(LANE, self.state, chunks)
        self.state.commit()
        return outcome


def answered(outcome: Outcome) -> list[tuple[str, int]]:
    """Whose lists were written, and the offset that each answers."""
    lists = [json.loads(each.value or b"") for each in outcome.writes.get(LISTS, [])]
    return [(each["user_id"], each["trigger"]["offset"]) for each in lists]


def test_within_the_budget_every_event_has_its_own_list() -> None:
    lane = Lane(lists_per_s_max=1_000)
    assert answered(lane.round("a", "b", "a", "a")) == [("a", 0), ("b", 1), ("a", 2), ("a", 3)]
    assert lane.application.due_s(LANE, lane.state) is None


def test_small_fetches_that_follow_one_another_are_learned_as_one() -> None:
    whole, cut = Lane(lists_per_s_max=1_000), Lane(lists_per_s_max=1_000)
    source = Position("recsys.behaviour.v1", LANE)
    records = [
        record(body(user_id=user, item_id=f"i{at}"), user.encode(), partition=LANE, offset=at)
        for at, user in enumerate("abcab")
    ]
    outcomes = []
    for lane, chunks in (
        (whole, [Chunk(source, 0, records)]),
        (cut, [Chunk(source, 0, records[:1]), Chunk(source, 1, records[1:])]),
    ):
        lane.state.begin()
        outcomes.append(lane.application.apply(LANE, lane.state, chunks))
        lane.state.commit()
    assert answered(outcomes[0]) == answered(outcomes[1])
    assert [offset for _, offset in answered(outcomes[1])] == [0, 1, 2, 3, 4]
    assert len(outcomes[1].writes[Position("recsys.item-updates.v1", 0)]) == 1
    assert whole.state.users.digest() == cut.state.users.digest()


def test_over_the_budget_users_share_and_everything_is_learned() -> None:
    lane = Lane(lists_per_s_max=8)  # four at once
    lane.round("a", "b", "c", "d")
    users = [f"u{n % 6}" for n in range(60)]
    outcome = lane.round(*users)
    lists = answered(outcome)
    assert len(lists) <= 1, "the budget is spent"
    assert len(lane.state.owed) == 6 - len(lists)
    heads = lane.state.users.heads
    for user, count in Counter(users).items():
        slot = lane.state.users.find(user)
        assert heads["events"][slot] == count
    owed = dict(everything(lane.state.owed))
    for user, offset in [*lists, *((user, each.offset) for user, each in owed.items())]:
        assert offset == 4 + max(at for at, name in enumerate(users) if name == user)


def test_who_floods_takes_one_place_and_starves_nobody() -> None:
    lane = Lane(lists_per_s_max=16)  # eight at once
    others = [f"u{n}" for n in range(7)]
    lists = answered(lane.round(*["flood"] * 500, *others))
    assert Counter(user for user, _ in lists) == Counter(["flood", *others])
    assert dict(lists)["flood"] == 499


def test_a_list_that_waits_too_long_is_written_whatever_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = Lane(lists_per_s_max=0.001)
    assert answered(lane.round("a", "b", "a")) == []
    assert lane.application.due_s(LANE, lane.state) is not None
    now_ms = user_lanes._now_ms()
    monkeypatch.setattr(user_lanes, "_now_ms", lambda: now_ms + 2_000)
    assert sorted(answered(lane.round())) == [("a", 2), ("b", 1)]
    assert len(lane.state.owed) == 0


def test_while_many_wait_to_be_learned_lists_wait_as_long_as_they_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = Lane(lists_per_s_max=1_000)
    begun_ms, answers = user_lanes._now_ms(), {}
    for ms in range(0, 4_000, 100):
        monkeypatch.setattr(user_lanes, "_now_ms", lambda ms=ms: begun_ms + ms)
        answers[ms] = answered(lane.round(*"abcabdef", behind=1_000))
    counts = Counter(user for lists in answers.values() for user, _ in lists)
    assert set(counts) == set("abcdef")
    assert max(counts.values()) <= 3, "each of them is active forty times"
    first = {user: min(ms for ms in answers if user in dict(answers[ms])) for user in counts}
    assert max(first.values()) <= 2_000 - 100
    assert answered(lane.round("a", "a", behind=0)) != []
    assert len(lane.state.owed) == 0


def test_the_more_wait_the_fewer_lists_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, now_ms = Lane(lists_per_s_max=1_000), user_lanes._now_ms()
    monkeypatch.setattr(user_lanes, "_now_ms", lambda: now_ms)  # nothing falls due
    users = [f"u{n}" for n in range(400)]
    none, half = (len(answered(lane.round(*users, behind=behind))) for behind in (1_000, 500))
    assert none == 0
    assert 0 < half <= 250 < 400


def test_a_round_that_is_taken_back_owes_what_it_owed_before() -> None:
    lane = Lane(lists_per_s_max=0.001)
    lane.round("a")
    before = everything(lane.state.owed)
    chunk = Chunk(
        Position("recsys.behaviour.v1", LANE), 1, [record(body(user_id="b"), b"b", offset=1)]
    )
    lane.state.begin()
    lane.application.apply(LANE, lane.state, [chunk])
    lane.state.rollback()
    assert everything(lane.state.owed) == before


def test_a_list_waits_no_longer_for_a_clock_that_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = Lane(lists_per_s_max=0.001)
    lane.round("a", "b")
    now_ms = user_lanes._now_ms()
    monkeypatch.setattr(user_lanes, "_now_ms", lambda: now_ms - 3_600_000)
    assert sorted(answered(lane.round())) == [("a", 0), ("b", 1)]


def test_who_was_swept_meanwhile_has_the_list_that_is_owed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = Lane(lists_per_s_max=0.001)
    assert answered(lane.round("a", "b")) == []
    lane.state.users.begin()
    lane.state.users.forget("a", 2**40)  # as a sweep does
    lane.state.users.commit()
    now_ms = user_lanes._now_ms()
    monkeypatch.setattr(user_lanes, "_now_ms", lambda: now_ms + 2_000)
    outcome = lane.round()
    assert sorted(answered(outcome)) == [("a", 0), ("b", 1)]
    assert len(lane.state.owed) == 0


def test_photos_go_with_a_user_who_was_silent_for_too_long() -> None:
    lane = Lane(lists_per_s_max=1_000)
    lane.state.photos.see("gone", "e@1", NOW_MS - 500 * DAY_MS, np.ones(2, np.float32))
    lane.state.photos.see("here", "e@1", NOW_MS - 10 * DAY_MS, np.ones(2, np.float32))
    lane.round("a")
    assert lane.state.photos.newest("gone") is None
    assert lane.state.photos.newest("here") is not None
