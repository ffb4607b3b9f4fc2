"""The same log, the same bytes: lists of an evaluation, from one process to the next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def lists_of(seed: str, log: Path) -> bytes:
    """The lists that an evaluation writes in a process with this seed of hashes."""
    folder = log.parent / seed
    folder.mkdir()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    subprocess.run(
        [sys.executable, "-m", "recsys", "evaluate", str(log), "--protocol", "repeat",
         "--methods", "recsys", "--lists", "lists.jsonl"],
        env=environ | {"PYTHONHASHSEED": seed}, cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    return (folder / "lists.jsonl").read_bytes()


@pytest.mark.slow
def test_an_evaluation_writes_the_same_lists_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    events = (
        {
            "user_id": f"u{n * 7 % 23}",
            "item_id": f"i{(n * n + 3 * n) % 41}",
            "type": ("view", "cart", "purchase")[n % 3],
            "timestamp": 1_700_000_000_000 + 60_000 * n,
        }
        for n in range(900)
    )
    log.write_text("".join(json.dumps(each) + "\n" for each in events))
    first = lists_of("1", log)
    assert first.count(b"\n") > 300
    assert lists_of("2", log) == first
