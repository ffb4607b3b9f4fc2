"""Lanes of the live inputs and lanes of a mirror, side by side: each answers what is its own."""

import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from recsys import list_budget, user_lanes
from recsys.mirror import Mirror
from recsys.user_lane import UserLane
from recsys.user_lanes import UserLanes
from recsys.user_lanes_config import UserLanesConfig
from streams import dead_letters
from streams.chunk import Chunk, Position, Record
from streams.events import HEADER_ORIGIN, HEADER_PROMOTE
from streams.no_state import NoState
from streams.partition import partition_of
from tests.records import NOW_MS, body, record
from tests.recsys.logs import World

LIVE, WIDE = 3, 5  # partitions of the live inputs, lanes of the generation beside them
BEHAVIOUR = "recsys.behaviour.v1"
Place = tuple[int, int]


@pytest.fixture(autouse=True)
def _no_list_waits_for_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_budget, "ROUND_LISTS_S", 1e9)


class Generation:
    """All lanes of a generation; every round ends in a kill, and a restore from the log."""

    def __init__(self, name: str, lanes: int, lists_per_s_max: float = 1e6) -> None:
        self.mirrored = lanes != LIVE
        self.config = UserLanesConfig(
            own_prefix="recsys" if name == "main" else f"recsys.{name}", generation=name,
            partitions=LIVE, mirrored=self.mirrored, lists_per_s_max=lists_per_s_max,
        )  # fmt: skip
        self.application = UserLanes(World().pipeline, self.config)
        self.states: dict[int, UserLane] = {}
        self.logs: dict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        self.ends: Counter[int] = Counter()
        self.written: dict[str, list[tuple[int, Record]]] = defaultdict(list)

    def round(self, lane: int, taken: list[Any]) -> None:
        state = self.application.open(lane)
        state.load_records(list(self.logs[lane].items()))
        source = Position(self.application.inputs[0], lane)
        state.begin()
        chunks = [Chunk(source, taken[0].offset, taken)] if taken else []
        outcome = self.application.apply(lane, state, chunks)
        self.logs[lane] |= dict(state.dirty_records())
        state.commit()
        self.states[lane] = state
        for at, records in outcome.writes.items():
            self.written[at.topic] += [(at.partition, each) for each in records]

    def take(self, partition: int, taken: list[Any]) -> None:
        """A stretch of a live partition, by way of the mirror if the lanes are others."""
        if not self.mirrored:
            self.round(partition, taken)
            return
        mirror = Mirror("recsys", self.config.own_prefix, WIDE)
        chunk = Chunk(Position(BEHAVIOUR, partition), taken[0].offset, taken)
        for at, copies in mirror.apply(partition, NoState(), [chunk]).writes.items():
            fetched = [
                record(
                    each.value, each.key, at.topic, at.partition, self.ends[at.partition] + n,
                    each.timestamp_ms or 0, each.headers,
                )
                for n, each in enumerate(copies)
            ]  # fmt: skip
            self.ends[at.partition] += len(fetched)
            self.round(at.partition, fetched)


def live_log(rng: random.Random) -> list[list[Any]]:
    """Each live partition's records: some astray, some broken, and the markers of promotions."""
    log: list[list[Any]] = [[] for _ in range(LIVE)]

    def append(partition: int, value: bytes | None, key: bytes | None, **more: Any) -> None:
        offset = len(log[partition])
        log[partition].append(record(value, key, BEHAVIOUR, partition, offset, **more))

    for generation in ("", "wide", "main", "wide"):
        for partition in range(LIVE):
            if generation:
                marker = [(HEADER_PROMOTE, generation.encode())]
                append(partition, None, None, headers=marker)
        for at in range(rng.randrange(30, 60)):
            user = f"u{rng.randrange(20)}".encode()
            home = partition_of(user, LIVE)
            value = body(user_id=user.decode(), item_id=f"i{at % 9}", timestamp=NOW_MS + at)
            chance = rng.random()
            if chance < 0.7:
                append(home, value, user)
            elif chance < 0.8:
                append((home + 1) % LIVE, value, user)
            elif chance < 0.9:
                append(rng.randrange(LIVE), b"broken", user)
            else:
                append(rng.randrange(LIVE), b"broken", None)
    return log


@pytest.mark.parametrize("seed", range(4))
def test_each_record_is_answered_passed_on_or_refused_by_one_of_both(seed: int) -> None:
    rng = random.Random(seed)
    log = live_log(rng)
    main, wide = Generation("main", LIVE), Generation("wide", WIDE)
    for generation in (main, wide):
        places = [0] * LIVE
        while left := [p for p in range(LIVE) if places[p] < len(log[p])]:
            partition = rng.choice(left)
            end = places[partition] + rng.randrange(1, 20)
            generation.take(partition, log[partition][places[partition] : end])
            places[partition] = end

    wanted: dict[str, list[Place]] = defaultdict(list)
    for each in (each for partition in log for each in partition):
        home = None if each.key is None else partition_of(each.key, LIVE)
        kind = "good" if home == each.partition else "astray"
        if each.value is not None:
            kind = "broken" if each.value == b"broken" else kind
            wanted[kind].append((each.partition, each.offset))

    answered, aside, passed, refused = [], [], [], []
    for generation in (main, wide):
        for partition, made in generation.written["recsys.recommendations.v1"]:
            trigger = json.loads(made.value or b"")["trigger"]
            assert partition == trigger["partition"] == partition_of(made.key or b"", LIVE)
            answered.append((partition, trigger["offset"]))
        for partition, made in generation.written[BEHAVIOUR]:
            origin = dict(made.headers)[HEADER_ORIGIN].decode()
            assert partition == partition_of(made.key or b"", LIVE)
            topic, at, offset = origin.split("/")
            assert topic == BEHAVIOUR
            passed.append((int(at), int(offset)))
        for partition, made in generation.written[f"{BEHAVIOUR}.dlq"]:
            letter = dead_letters.parse(record(made.value, made.key, headers=made.headers))
            assert (letter.topic, letter.partition) == (BEHAVIOUR, partition)
            refused.append((letter.partition, letter.offset))
    for _, made in wide.written["recsys.wide.recommendations.v1"]:
        trigger = json.loads(made.value or b"")["trigger"]
        aside.append((trigger["partition"], trigger["offset"]))
    assert sorted(answered) == sorted(wanted["good"])
    assert sorted(passed) == sorted(wanted["astray"])
    assert sorted(refused) == sorted(wanted["broken"])
    assert set(aside) < set(answered)
    assert all(
        main.written[topic] and wide.written[topic] for topic in (BEHAVIOUR, f"{BEHAVIOUR}.dlq")
    )


def test_a_list_that_waited_answers_the_live_place_in_the_live_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = Generation("wide", WIDE, lists_per_s_max=0.001)
    users = [f"u{n}" for n in range(8)]
    marker = [(HEADER_PROMOTE, b"wide")]
    log = [[record(None, None, BEHAVIOUR, p, 0, headers=marker)] for p in range(LIVE)]
    wanted = {}
    for user in users:
        home = partition_of(user.encode(), LIVE)
        wanted[user] = (home, len(log[home]))
        value = body(user_id=user)
        log[home].append(record(value, user.encode(), BEHAVIOUR, home, len(log[home])))
    for partition in range(LIVE):
        wide.take(partition, log[partition])
    lists = wide.written["recsys.recommendations.v1"]
    assert not lists
    now_ms = user_lanes._now_ms()
    monkeypatch.setattr(user_lanes, "_now_ms", lambda: now_ms + 2_000)
    for lane in range(WIDE):
        wide.round(lane, [])
    found = {}
    for partition, made in lists:
        answer = json.loads(made.value or b"")
        trigger = answer["trigger"]
        assert answer["list_id"].startswith(f"{BEHAVIOUR}/{partition}/{trigger['offset']}@")
        found[answer["user_id"]] = (partition, trigger["offset"])
    assert found == wanted


def test_a_lane_that_starts_later_knows_the_promotions_of_all_partitions() -> None:
    wide = Generation("wide", WIDE)
    for partition in range(LIVE):
        wide.application.control.of(partition).add(BEHAVIOUR, 3, "wide")
    user = b"u1"
    home = partition_of(user, LIVE)
    taken = [record(body(user_id="u1"), user, BEHAVIOUR, home, offset) for offset in (2, 3)]
    wide.take(home, taken)
    ((partition, made),) = wide.written["recsys.recommendations.v1"]
    assert partition == home
    assert json.loads(made.value or b"")["trigger"]["offset"] == 3
