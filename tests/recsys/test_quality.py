"""The lists must not get worse: NDCG@10 over the beginning of the log that ships with us.

A change that costs more than 2 % of a figure in `quality.json` fails. A change that gains, or one
whose loss is wanted, writes its figures there:

    python -m tests.recsys.test_quality
"""

import json
from functools import cache
from pathlib import Path

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
LOSS_MAX = 0.02


@cache
def sample() -> EvaluationLog:
    events, products = read_sample()
    return build(events[:EVENTS], products=products)


def ndcg_of(protocol: str) -> float:
    repeats = protocol == "repeat"
    config = PipelineConfig(rerank=RerankConfig(repeats=repeats))
    outcome = evaluate(SERVED, sample(), repeats=repeats, warm_up=0.2, config=config)
    return float(gains(outcome.ranks, 10).mean())


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_change_costs_more_than_two_percent(protocol: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert recorded["log"] == sample().digest
    reached, kept = ndcg_of(protocol), recorded["ndcg@10"][protocol]
    assert reached >= (1 - LOSS_MAX) * kept


def record() -> None:
    """Measure now, and write what later changes are held to."""
    figures = {protocol: round(ndcg_of(protocol), 6) for protocol in PROTOCOLS}
    kept = {"log": sample().digest, "events": EVENTS, "ndcg@10": figures}
    RECORDED.write_text(json.dumps(kept, indent=2) + "\n")
    print(RECORDED.read_text())  # noqa: T201


if __name__ == "__main__":
    record()
