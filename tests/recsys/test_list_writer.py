"""Where a list is written, and what it says of itself."""

import json
from typing import Any

import pytest

from recsys import metrics
from recsys.forgotten import Forgotten
from recsys.list_writer import ListWriter, encoded
from recsys.tracing import Tracer
from recsys.user_inputs import UserInputs
from recsys.user_lane import UserLane
from recsys.user_lanes_config import UserLanesConfig
from streams import topics
from streams.application import Outcome
from streams.chunk import Position
from streams.events import RankedItem, RankedList, Trigger
from tests.records import NOW_MS
from tests.recsys.logs import World, seeded_log

LANE = 4
BEHAVIOUR = "recsys.behaviour.v1"


class Writer:
    """A generation's writer in a small shop."""

    def __init__(self, generation: str, own_prefix: str) -> None:
        self.world = World()
        self.world.learn(seeded_log(200))
        config = UserLanesConfig(generation=generation, own_prefix=own_prefix)
        inputs = UserInputs(config, Forgotten(), self.world.catalogue.lists)
        self.lists = ListWriter(self.world.pipeline, config, inputs, Tracer())
        self.state = UserLane(self.world.users)

    def write(self, offset: int, **more: Any) -> list[tuple[Position, dict[str, Any]]]:
        """Where the list went that answers an event of partition 2, and what it says."""
        outcome, trigger = Outcome(), Trigger("event", BEHAVIOUR, 2, offset)
        ranked = self.world.recommend("u1", k=3)
        self.lists.write(LANE, self.state, outcome, ranked, "u1", trigger, NOW_MS, **more)
        return [
            (at, json.loads(record.value or b""))
            for at, records in outcome.writes.items()
            for record in records
        ]


@pytest.mark.parametrize(
    ("generation", "own_prefix", "before", "after"),
    [
        ("main", "recsys", Position(topics.RECOMMENDATIONS.name("recsys"), 2), None),
        (
            "next", "recsys.next", Position(topics.RECOMMENDATIONS.name("recsys.next"), LANE),
            Position(topics.RECOMMENDATIONS.name("recsys"), 2),
        ),
    ],
)  # fmt: skip
def test_who_is_live_answers_in_the_triggers_partition_and_others_aside(
    generation: str, own_prefix: str, before: Position, after: Position | None
) -> None:
    writer = Writer(generation, own_prefix)
    writer.state.switches.add(BEHAVIOUR, 10, "next")
    assert [at for at, _ in writer.write(9)] == [before]
    assert [at for at, _ in writer.write(10)] == ([] if after is None else [after])


def test_a_list_names_what_it_answers() -> None:
    writer = Writer("main", "recsys")
    ((_, told),) = writer.write(7, request_id="r1")
    version = writer.world.pipeline.model_version
    assert told["list_id"] == f"{BEHAVIOUR}/2/7@{version}"
    assert (told["user_id"], told["request_id"], told["event_time"]) == ("u1", "r1", NOW_MS)
    assert len(told["items"]) == 3


def test_sources_are_counted_once_a_round() -> None:
    writer = Writer("main", "recsys")

    def counted() -> float:
        samples = next(iter(metrics.LISTED.collect())).samples
        return sum(each.value for each in samples if each.name.endswith("_total"))

    before = counted()
    writer.write(7)
    assert counted() == before
    writer.lists.count_sources()
    after = counted()
    assert after >= before + 3
    writer.lists.count_sources()
    assert counted() == after


def test_a_list_that_its_topic_would_not_take_lacks_its_last_items() -> None:
    items = [RankedItem("商" * 300, 1.0, rank, ["own"], "商" * 100) for rank in range(1, 1_001)]
    answer = RankedList(
        list_id="x", user_id="u", trigger=Trigger("event", BEHAVIOUR, 2, 1), items=items,
        model_version="v", variant="main", event_time=NOW_MS, produced_time=NOW_MS,
    )  # fmt: skip
    body = encoded(answer)
    limit = topics.RECOMMENDATIONS.body_bytes_max
    assert 0.99 * limit < len(body) <= limit
    ranks = [item["rank"] for item in json.loads(body)["items"]]
    assert ranks == list(range(1, len(ranks) + 1))


def test_a_propensity_of_one_is_left_out() -> None:
    ((_, answer),) = Writer("main", "recsys").write(1)
    assert answer["items"]
    assert not any("propensity" in item for item in answer["items"])
