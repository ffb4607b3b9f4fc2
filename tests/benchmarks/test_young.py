"""Young shops are measured, small, on the log that ships with us; no figure is judged here."""

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from benchmarks import young
from recsys.demo import read_sample


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


def test_stretches_are_spread_over_the_log() -> None:
    events, _ = read_sample()
    log = young.Log(events[:1_000], {})
    stretches = list(log.stretches(3, 100))
    assert [len(stretch) for stretch in stretches] == [100, 100, 100]
    assert len({stretch.digest for stretch in stretches}) == 3
    assert len(next(young.Log(events[:50], {}).stretches(1, 100))) == 50
