"""Every benchmark runs, small; no figure is judged here."""

import json
from pathlib import Path

import pytest

from benchmarks import run
from streams.broker import open_broker


@pytest.fixture(scope="module")
def broker_address():
    with open_broker(show_progress=False) as broker:
        yield broker.bootstrap


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", run.NAMES)
def test_quick_run_writes_a_table(
    name: str, broker_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_BROKER", broker_address)
    assert run.main(["--quick", "--only", name, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    tables = results[name]["tables"]
    assert tables
    assert all(table["rows"] for table in tables)
    if name == "throughput":
        told = {row["contender"]: row["transactions"] for row in tables[0]["rows"]}
        assert told["aiokafka transactional loop, no state log"] >= 1
    written = (tmp_path / "speed.md").read_text()
    assert all(table["title"] in written for table in tables)


def test_every_benchmark_has_a_table_that_was_kept() -> None:
    kept = json.loads((Path(run.__file__).parent / "results.json").read_text())
    assert set(kept) == set(run.NAMES)
