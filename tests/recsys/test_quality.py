"""The lists must not get worse: NDCG@10 over the beginning of the log that ships with us.

And over some short stretches of it, each as a shop of its own that has just opened.

A change that costs more than 2 % of a figure in `quality.json` fails. A change that gains, or one
whose loss is wanted, writes its figures there:

    python -m tests.recsys.test_quality
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from models.metrics import gains
from recsys.demo import read_sample
from recsys.evaluation_log import EvaluationLog, build
from recsys.evaluation_methods import SERVED, evaluate
from recsys.pipeline import PipelineConfig
from recsys.rerank import RerankConfig

RECORDED = Path(__file__).parent / "quality.json"
PROTOCOLS = ("repeat", "new")
EVENTS = 20_000
SHOPS, YOUNG_EVENTS = 8, 3_000
LOSS_MAX = 0.02


@cache
def sample(begin: int = 0, count: int = EVENTS) -> EvaluationLog:
    events, products = read_sample()
    return build(events[begin : begin + count], products=products)


def gains_of(log: EvaluationLog, protocol: str, warm_up: float, method: str) -> Sequence[float]:
    repeats = protocol == "repeat"
    config = PipelineConfig(rerank=RerankConfig(repeats=repeats))
    outcome = evaluate(method, log, repeats=repeats, warm_up=warm_up, config=config)
    return gains(outcome.ranks, 10).tolist()


def ndcg_of(protocol: str) -> float:
    return fmean(gains_of(sample(), protocol, 0.2, SERVED))


def ndcg_of_young(protocol: str, method: str = SERVED) -> float:
    """Over all lists from the 300th event on of shops of 3,000."""
    starts = range(0, len(read_sample()[0]) - YOUNG_EVENTS, len(read_sample()[0]) // SHOPS)
    logs = [sample(start, YOUNG_EVENTS) for start in starts]
    return fmean(gain for log in logs for gain in gains_of(log, protocol, 0.1, method))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_change_costs_more_than_two_percent(protocol: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert recorded["log"] == sample().digest
    reached, kept = ndcg_of(protocol), recorded["ndcg@10"][protocol]
    assert reached >= (1 - LOSS_MAX) * kept


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nor_does_it_to_a_young_shop(protocol: str) -> None:
    reached = ndcg_of_young(protocol)
    assert reached >= (1 - LOSS_MAX) * json.loads(RECORDED.read_text())["young ndcg@10"][protocol]
    if protocol == "repeat":
        assert reached > ndcg_of_young(protocol, "popularity")


def record() -> None:
    """Measure now, and write what later changes are held to."""
    figures = {protocol: round(ndcg_of(protocol), 6) for protocol in PROTOCOLS}
    young = {protocol: round(ndcg_of_young(protocol), 6) for protocol in PROTOCOLS}
    kept = {
        "log": sample().digest, "events": EVENTS, "ndcg@10": figures, "young ndcg@10": young,
    }  # fmt: skip
    RECORDED.write_text(json.dumps(kept, indent=2) + "\n")
    print(RECORDED.read_text())  # noqa: T201


if __name__ == "__main__":
    record()
