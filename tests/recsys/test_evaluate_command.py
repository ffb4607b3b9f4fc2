"""`recsys evaluate`, from a file to the table and the JSON object."""

import csv
import json
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recsys import evaluation_store
from recsys.cli import app
from recsys.evaluation_log import build
from recsys.evaluation_variants import Entry
from recsys.pipeline import PipelineConfig
from recsys.rules import Rule

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


def test_what_was_kept_and_damaged_is_done_again(log):
    first = json.loads(evaluate(log, "--methods", "popularity", "--json"))
    (kept,) = Path().glob("**/popularity-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    again = json.loads(evaluate(log, "--methods", "popularity", "--json", "--resume"))
    assert again["methods"]["popularity"]["ndcg@10"] == first["methods"]["popularity"]["ndcg@10"]


def test_a_limit_counts_events_not_rows(log):
    rows = Path(log).read_text().splitlines()
    Path("odd.csv").write_text("\n".join([rows[0], *[","] * 50, *rows[1:]]))
    whole, cut = (
        json.loads(evaluate(file, "--methods", "popularity", "--limit", "300", "--json"))
        for file in (log, "odd.csv")
    )
    assert cut["events"] == whole["events"] == 300


def test_refused_products_are_told(log):
    Path("products.csv").write_text("item_id,price\na,dear\nb,1\n")
    options = ["--map", "user_id=who", "--methods", "popularity", "--catalogue", "products.csv"]
    result = CliRunner().invoke(app, ["evaluate", log, *options])
    assert "1 products of products.csv were refused" in " ".join(result.stderr.split())


def test_an_outcome_of_other_code_is_another_one(tmp_path, monkeypatch):
    for file in Path(evaluation_store.ROOT).glob("models/**/*.py"):
        copied = tmp_path / file.relative_to(evaluation_store.ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(file.read_bytes())
    store = evaluation_store.Store(tmp_path, build([]))
    entry = Entry("recsys", "default", PipelineConfig())

    def paths(at, name="0.7"):
        monkeypatch.setattr(evaluation_store, "ROOT", tmp_path)
        monkeypatch.setattr(evaluation_store, "version", lambda _: name)
        evaluation_store._code.cache_clear()
        return store.path("popularity", 0), store.path("recsys", 0, at)

    first = paths(entry)
    assert paths(entry) == first
    with (tmp_path / "models" / "ranker.py").open("a") as code:
        code.write("# changed")
    second = paths(entry)
    assert (second[0] == first[0], second[1] == first[1]) == (True, False)
    with (tmp_path / "models" / "baselines" / "counted.py").open("a") as code:
        code.write("# changed")
    third = paths(entry)
    assert third[0] != second[0]
    assert paths(entry, "0.8")[0] != third[0]
    ruled = replace(entry, rules=(Rule(name="none", action="exclude", items=["a"]),))
    assert paths(ruled)[1] != third[1]
    evaluation_store._code.cache_clear()


def test_the_shops_rules_hold(log, tmp_path, monkeypatch):
    rules = tmp_path / "rules.toml"
    monkeypatch.setenv("RECSYS_RANK__RULES_FILE", str(rules))
    given = [log, "--protocol", "repeat", "--methods", "recsys", "--limit", "400", "--resume"]
    some = {"i1", "i2", "i3"}
    reached, kept = [], []
    for items, file in ((["none"], "free.jsonl"), (sorted(some), "bound.jsonl")):
        rules.write_text(f'[[rule]]\nname = "out"\naction = "exclude"\nitems = {items}\n')
        told = json.loads(evaluate(*given, "--json"))
        reached.append(told["methods"]["recsys"]["ndcg@10"])
        evaluate(*given, "--lists", file)
        lists = [json.loads(line) for line in (tmp_path / file).read_text().splitlines()]
        kept.append({item["item_id"] for each in lists for item in each["items"]} & some)
    assert reached[0] != reached[1]
    assert kept == [some, set()]
    weighed = json.loads(evaluate(*given, "--counterfactual", "free.jsonl", "--json"))
    assert weighed["variants"]["default"]["support"] < 1


def test_lists_are_those_that_users_would_have_seen(log, tmp_path):
    """Of ten items, without what is hidden until it is learned, in ranks that count on."""
    given = [log, "--methods", "recsys", "--sync", "1h"]
    evaluate(*given, "--lists", "lists.jsonl")
    lists = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    with open(log) as file:
        events = [(row["who"], row["item_id"], int(row["timestamp"]) * 1000)
                  for row in csv.DictReader(file)]  # fmt: skip
    for each in lists:
        items = [item["item_id"] for item in each["items"]]
        had = {item for user, item, at in events
               if user == each["user_id"] and at < each["event_time"]}  # fmt: skip
        assert len(items) <= 10
        assert not had & set(items)
        assert [item["rank"] for item in each["items"]] == list(range(1, len(items) + 1))


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
        (["--sync", "nans"], "no time"),
        (["--sync", "-1s"], "no time"),
        (["--sync", "1e300d"], "no time"),
        (["--seed", "-1"], "--seed"),
        (["--sync", "0s,1h", "--lists", "lists.jsonl"], "--lists takes one --sync"),
        (
            ["--lists", "lists.jsonl", "--methods", "popularity"],
            "--lists writes what recsys serves",
        ),
        (["--picture", "x.none"], "x.none ends in none of"),
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
    Path("x.svg").mkdir()
    options = ["--map", "user_id=who", "--methods", "popularity", "--picture", "x.svg"]
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
