"""Young shops are measured, small, on the log that ships with us; no figure is judged here."""

import gzip
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import young
from recsys.demo import read_sample
from recsys.evaluation_log import answers_of


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_it_writes_a_table_of_methods_by_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, products = read_sample()
    with gzip.open(tmp_path / "log.jsonl.gz", "wb") as file:
        file.writelines(msgspec.json.encode(event) + b"\n" for event in events[:2_000])
    lines = (json.dumps(msgspec.to_builtins(product)) for product in products)
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(young, "LOGS", {"ours": "log.jsonl.gz --catalogue items.jsonl"})
    monkeypatch.setattr(young, "CASES", (("ours", "repeat"), ("ours", "new")))
    chosen = ["--methods", "recsys,popularity,own-items", "--events", "600", "--shops", "2"]
    assert young.main([str(tmp_path), *chosen, "--out", str(tmp_path)]) == 0
    written = (tmp_path / "young.md").read_text()
    rows = [line for line in written.splitlines() if line.startswith("| ")]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names[:2] == ["NDCG@10", "answers"]
    assert {"recsys", "popularity", "own-items", "less it"} <= set(names)


def test_a_user_of_two_shops_is_two_users() -> None:
    events, _ = read_sample()
    log = next(young.Log(events[:500], {}).stretches(1, 500))
    one, two = young.users_of([log], "repeat"), young.users_of([log, log], "repeat")
    assert len(one) == len(answers_of(log, True, young.WARM_UP))
    assert len(set(two.tolist())) == 2 * len(set(one.tolist()))


def test_the_interval_is_over_users() -> None:
    gains = np.repeat([0.0, 1.0, 0.0, 1.0], 50)  # four users, who answer alike every time
    measured = {("ours", "new"): {"recsys": gains, "popularity": np.full(200, 0.1)}}
    last = young.table(measured, {("ours", "new"): np.repeat(np.arange(4), 50)})[-1]
    assert last == "| less it | +0.4000 ± 0.5658 |"


def test_stretches_are_spread_over_the_log() -> None:
    events, _ = read_sample()
    log = young.Log(events[:1_000], {})
    stretches = list(log.stretches(3, 100))
    assert [len(stretch) for stretch in stretches] == [100, 100, 100]
    assert len({stretch.digest for stretch in stretches}) == 3
    assert len(next(young.Log(events[:50], {}).stretches(1, 100))) == 50
