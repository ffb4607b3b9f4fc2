"""Health, metrics and traces of a worker at work, and whether dashboard and alerts ask for them."""

import asyncio
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streams import topics
from streams.chunk import Record
from streams.events import HEADER_TRACEPARENT
from tests.e2e.harness import Shop, WorkerProcess, until
from tests.e2e.test_main_job import event, new_shop, random_events  # noqa: F401

ROOT = Path(__file__).parents[2]
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LABELS = {"topic", "reason", "trigger", "source", "hit", "group", "outcome", "stage", "version"}
SERIES_MAX = 200  # of a worker, however many users and items


async def metrics(worker: WorkerProcess) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=5) as page:
            return page.read().decode()  # type: ignore[no-any-return]

    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(get)):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def asked() -> set[str]:
    """Names of ours in the dashboard and in the alert rules."""
    board = json.loads((ROOT / "observability/grafana/dashboards/recsys.json").read_text())
    rules = yaml.safe_load((ROOT / "observability/alerts.yml").read_text())
    text = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    text += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return set(re.findall(r"recsys_[a-z_]+", " ".join(text)))


@pytest.mark.usefixtures("broker")
class TestObservability:
    async def test_metrics_tell_what_happened(self, new_shop: Any) -> None:  # noqa: F811
        shop: Shop = await new_shop()
        worker = shop.start()
        await worker.until_ready()
        events = random_events(3, 300)
        await shop.produce_events(events)
        await shop.produce(topics.BEHAVIOUR, [Record(b"u1", b"broken"), Record(b"u2", b"{}")])
        await shop.settled()
        seen = await metrics(worker)
        name, group = shop.topic(topics.BEHAVIOUR), f"{shop.prefix}-behaviour"
        assert seen["recsys_events_total"][("topic", name),] == len(events)
        lists = await shop.lists()
        assert sum(seen["recsys_lists_total"].values()) == len(lists)
        listed = sum(len(each["items"]) for each in lists)
        assert sum(seen["recsys_listed_items_total"].values()) >= listed
        letters = {
            dict(labels)["reason"]: value
            for labels, value in seen["recsys_dead_letters_total"].items()
        }
        assert letters == {"not-json": 1, "missing": 1}
        answers = {dict(labels)["hit"]: v for labels, v in seen["recsys_answers_total"].items()}
        assert answers["yes"] > 0
        assert 0 < answers["yes"] + answers["no"] <= len(events)
        done = seen["recsys_transactions_total"]
        assert done[("group", group), ("outcome", "committed")] > 0
        assert seen["recsys_records_total"][("group", group),] == len(events) + 2
        assert seen["recsys_lanes"] == seen["recsys_lanes_ready"]
        stages = seen["recsys_stage_seconds_total"]
        assert all(
            stages[("group", group), ("stage", s)] > 0 for s in ("apply", "commit", "restore")
        )
        assert seen["recsys_users"][()] == len({each["user_id"] for each in events})
        assert set(seen["recsys_model_info"]) == {(("version", "online"),)}

        ours = {name: series for name, series in seen.items() if name.startswith("recsys_")}
        for series in ours.values():
            for labels in series:
                assert {label for label, _ in labels} <= LABELS
        assert sum(map(len, ours.values())) < SERIES_MAX
        assert asked() <= set(ours)

    async def test_lag_beyond_its_bound_is_not_ready(self, new_shop: Any) -> None:  # noqa: F811
        shop: Shop = await new_shop()
        # Few records a transaction: the rest has to wait.
        worker = shop.start(WORKER__READY_LAG_RECORDS_MAX="0", WORKER__CHUNK_EVENTS_MAX="4")
        await worker.until_ready()
        await shop.produce_events([event(f"u{at % 9}", "i", at) for at in range(300)])
        lags = []

        async def behind() -> bool:
            status, body = await asyncio.to_thread(worker.health)
            if status == 503:
                lags.append(body["lag_records"])
            return bool(lags)

        await until(behind, "a lag to show")
        assert lags[-1] > 0
        await shop.settled()
        await worker.until_ready()

    async def test_an_address_that_can_not_be_had_is_said_with_its_settings(
        self,
        new_shop: Any,  # noqa: F811
    ) -> None:
        shop: Shop = await new_shop()
        worker = shop.start(("items",), WORKER__WEB_HOST="192.0.2.1")  # nobody's (RFC 5737)
        assert await worker.exit_code() == 1
        assert f"can not be served at 192.0.2.1:{worker.port}" in worker.log
        assert "worker.web_host and worker.web_port" in worker.log
        assert "Traceback" not in worker.log

    async def test_a_list_carries_its_events_trace(self, new_shop: Any) -> None:  # noqa: F811
        shop: Shop = await new_shop()
        await shop.start().until_ready()
        body = json.dumps(event("u1", "i1")).encode()
        await shop.produce(topics.BEHAVIOUR, [Record(b"u1", body, [(HEADER_TRACEPARENT, TRACE)])])
        request = json.dumps({"user_id": "u2", "request_id": "r"}).encode()
        await shop.produce(topics.REQUESTS, [Record(b"u2", request, [(HEADER_TRACEPARENT, TRACE)])])
        await shop.produce_events([event("u3", "i1")])
        await shop.settled()
        lists = await shop.read(topics.RECOMMENDATIONS)
        traces = {record.key: dict(record.headers).get(HEADER_TRACEPARENT) for record in lists}
        assert traces == {b"u1": TRACE, b"u2": TRACE, b"u3": None}
