"""`recsys evaluate`, from a file to the table and the JSON object."""

import csv
import json
import os
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from recsys.cli import app

METHODS = "recsys,popularity,own-items"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("RECSYS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def log(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["who", "item_id", "type", "timestamp"])
        for n in range(1_200):
            user = rng.integers(0, 40)
            item = (5 * user + rng.integers(0, 8)) % 60
            rows.writerow([f"u{user}", f"i{item}", "purchase", 1_600_000_000 + 60 * n])
    return str(path)


def evaluate(*arguments):
    result = CliRunner().invoke(app, ["evaluate", *arguments, "--map", "user_id=who"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_object_with_every_methods_figures(log):
    numbers = json.loads(
        evaluate(log, "--protocol", "repeat", "--methods", METHODS, "--limit", "800", "--json")
    )
    assert {"protocol", "users", "items", "events", "digest", "methods", "splits"} <= set(numbers)
    assert (numbers["protocol"], numbers["events"]) == ("repeat", 800)
    assert set(numbers["methods"]) == set(METHODS.split(","))
    for each in numbers["methods"].values():
        assert {"hr@10", "ndcg@10", "mrr", "coverage@10", "learn_us", "recommend_us",
                "events", "memory_bytes", "curve"} <= set(each)  # fmt: skip
        assert 0 < each["ndcg@10"] < each["hr@10"] <= 1
        assert each["memory_bytes"] > 400
    split = numbers["splits"]["returning users"]
    assert split["overall_best"] in ("popularity", "own-items")
    assert split["difference_interval"] > 0


def test_what_was_finished_is_not_done_again(log):
    first = json.loads(evaluate(log, "--methods", "recsys", "--json"))
    again = json.loads(evaluate(log, "--methods", "recsys", "--json", "--resume"))
    assert again == first  # times of another run would differ


def test_variants_are_compared_and_their_lists_weighed(log, tmp_path):
    (tmp_path / "wild.toml").write_text("[rank]\nexplore_share = 1.0\nfresh_events = 100000\n")
    (tmp_path / "plain.toml").write_text('[rank]\nsources = ["popularity"]\n')
    catalogue = tmp_path / "items.csv"
    catalogue.write_text("item_id,title\n" + "".join(f"i{n},thing {n}\n" for n in range(60)))
    given = [log, "--protocol", "repeat", "--catalogue", str(catalogue), "--methods", "recsys"]
    files = "wild.toml,plain.toml"
    told = evaluate(*given, "--variants", files, "--lists", "lists.jsonl")
    assert "Variants" in told
    assert "wild" in told
    lists = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert {each["variant"] for each in lists} == {"default", "wild", "plain"}
    odds = {each["variant"]: each["items"][-1].get("propensity", 1.0) for each in lists}
    assert odds["wild"] < 1.0 == odds["default"]
    numbers = json.loads(evaluate(*given, "--variants", files, "--json"))
    assert [each["variant"] for each in numbers["variants"]] == ["default", "wild", "plain"]
    assert set(numbers["methods"]) == {"recsys", "recsys:wild", "recsys:plain"}
    weighed = [*given, "--counterfactual", "lists.jsonl", "--variants", "plain.toml"]
    estimates = json.loads(evaluate(*weighed, "--json"))
    assert estimates["lists"] == len(lists)
    assert set(estimates["variants"]) == {"default", "plain"}
    for each in estimates["variants"].values():
        assert each["ips"]["low"] < each["ips"]["value"] < each["ips"]["high"]
    assert "SNIPS" in evaluate(*weighed)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--methods", "magic"], "no method is called 'magic'"),
        (["--variants", "none.toml"], "none.toml"),
        (["--sync", "1y"], "no time"),
    ],
)
def test_wrong_words_are_named(log, given, told):
    result = CliRunner().invoke(app, ["evaluate", log, "--map", "user_id=who", *given])
    assert result.exit_code == 2
    assert told in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("option", ["--picture", "--lists"])
def test_a_folder_that_is_not_there_is_told_before_anything_is_read(option, tmp_path):
    file = str(tmp_path / "none" / "x.svg")
    result = CliRunner().invoke(app, ["evaluate", "unread.csv", option, file])
    assert result.exit_code == 2
    told = " ".join(result.output.replace("│", " ").split())
    assert "is no folder" in told
    assert "unread.csv is not there" not in told


def test_a_picture_that_can_not_be_drawn_takes_no_table_with_it(log):
    options = ["--map", "user_id=who", "--methods", "popularity", "--picture", "x.none"]
    result = CliRunner().invoke(app, ["evaluate", log, *options])
    assert result.exit_code == 1
    assert "1,200 events" in result.stdout


def test_reading_is_told_while_it_lasts(log, monkeypatch):
    told = []

    @contextmanager
    def bar(total, shown):
        yield lambda done, words: told.append((done, total, words))

    monkeypatch.setattr("recsys.commands.evaluate.progress_bar", bar)
    evaluate(log, "--methods", "popularity")
    read = [each for each in told if each[2].endswith("rows")]
    assert [words for _, _, words in read] == ["log.csv: 500 rows", "log.csv: 1000 rows"]
    assert all(0 < done <= total == os.path.getsize(log) for done, total, _ in read)
