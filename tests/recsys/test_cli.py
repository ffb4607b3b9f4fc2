import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.cli import app
from recsys.commands.common import parse_fields, print_table
from tests.records import body

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "recsys" / "sample" / "clothing"
NOBODY = "127.0.0.1:1"  # a port where nothing answers


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("RECSYS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_BROKER", NOBODY)


def recsys(*arguments):
    return CliRunner().invoke(app, list(arguments))


def usage_error(*arguments):
    result = recsys(*arguments)
    assert result.exit_code == 2, result.output
    return result.stderr


def failure(*arguments):
    """Exit code 1, nothing on standard output, one sentence."""
    result = recsys(*arguments)
    assert result.exit_code == 1, result.output
    assert not result.stdout
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_version_and_help_load_nothing_heavy():
    code = (
        "import sys; from recsys.cli import app; "
        "heavy = {'numpy', 'faust', 'aiokafka', 'numba', 'torch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert recsys("--version").stdout.startswith("recsys ")
    assert recsys("--help").exit_code == 0


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "recsys", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.split()[0], done.stderr) == ("recsys", "")


def test_ctrl_c_while_it_is_importing_is_no_traceback():
    code = """
import sys
from recsys.__main__ import main

class Interrupted:
    def find_spec(self, name, *_):
        if name == "recsys.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "recsys: stopped\n")


def test_ctrl_c_is_said_and_exits_with_130(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("recsys.commands.config.template", interrupted)
    result = recsys("config", "--template")
    assert (result.exit_code, result.stderr) == (130, "recsys: stopped\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "list"],
        ["topics", "check", "--json"],
        ["topics", "create"],
        ["recommendations"],
        ["recommendations", "--user", "u1", "--json"],
        ["state", "--user", "u1"],
        ["replay", "--topic", "live.behaviour.v1"],
        ["replay", "--dlq"],
    ],
)
def test_no_broker_is_one_sentence(arguments):
    assert f"no Kafka answers at {NOBODY}" in failure(*arguments)


def test_no_broker_is_one_sentence_when_producing(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(body())
    assert f"no Kafka answers at {NOBODY}" in failure("produce", "a.jsonl")
    assert f"no Kafka answers at {NOBODY}" in failure("replay", "a.jsonl")


def test_debug_shows_where_an_error_came_from():
    result = recsys("--debug", "topics", "list")
    assert type(result.exception).__name__ == "AdminError"
    # requests hold passwords and tokens
    assert not logging.getLogger("aiokafka.conn").isEnabledFor(logging.DEBUG)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "nonsense"),
        (["topics"], "Usage"),
        (["produce"], "FILE"),
        (["produce", "none.csv"], "none.csv"),
        (["produce", "a.csv", "--map", "colour=x"], "'colour' is no field"),
        (["produce", "a.csv", "--map", "user_id=x"], "no column 'x' for user_id"),
        (["produce", "a.csv", "--time-unit", "weeks"], "weeks"),
        (["produce", "a.txt"], "none of the endings"),
        (["produce", "a.csv", "--catalogue", "--map", "user_id=a"], "'user_id' is no field"),
        (["replay"], "say what to replay"),
        (["replay", "a.csv", "--topic", "x"], "say what to replay"),
        (["replay", "a.csv", "--from-offset", "3"], "a FILE goes without --from-offset"),
        (["replay", "a.csv", "--set", "a=b"], "a FILE goes without --set"),
        (["replay", "--dlq", "--limit", "1", "--sort"], "--dlq goes without --sort, --limit"),
        (["replay", "--shadow", "v2", "--dry-run"], "--shadow goes without --dry-run"),
        (["replay", "--topic", "a.behaviour.v1", "--map", "a=b"], "--topic goes without --map"),
        (["replay", "--dlq", "--set", "a"], "'a' is not field=value"),
        (["replay", "--dlq", "--set", "nix=1"], "'nix' is no field of recsys.behaviour.v1; they"),
        (
            ["replay", "--dlq", "--topic", "recsys.image-uploads.v1", "--set", "user_id=1"],
            "'user_id' is no field of recsys.image-uploads.v1; its bodies are not mended",
        ),
        (["replay", "--dlq", "--reason", "nix"], "'nix' is no reason; they are not-json"),
        (["replay", "--dlq", "a.csv"], "--dlq goes without a FILE"),
        (["replay", "--dlq", "--topic", "recsys.user-state.v1"], "has no dead letters"),
        (["replay", "--topic", "recsys.behaviour.v1"], "say --prefix"),
        (["replay", "--topic", "orders"], "none of the topics"),
        (["replay", "--topic", "a.user-state.v1", "--prefix", "b"], "that can be replayed"),
        (["replay", "--topic", "a.control.v1", "--prefix", "b"], "that can be replayed"),
        (["replay", "--topic", "a.behaviour.v1", "--from-time", "soon"], "neither RFC 3339"),
        (["replay", "--topic", "a.behaviour.v1", "--from-time", "5", "--from-offset", "1"], "both"),
        (["replay", "a.csv", "--speed", "0"], "--speed"),
        (["recommendations", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(tmp_path, arguments, told):
    (tmp_path / "a.csv").write_text("userId,movieId,timestamp\n1,2,1700000000\n")
    (tmp_path / "a.txt").write_text("x")
    said = " ".join(usage_error(*arguments).replace("│", " ").split())
    assert told in said


def test_a_wrong_setting_is_named_and_exits_with_2(monkeypatch):
    monkeypatch.setenv("RECSYS_WORKER__WEB_PRT", "1")
    assert "RECSYS_WORKER__WEB_PRT is no setting" in usage_error("config")
    monkeypatch.delenv("RECSYS_WORKER__WEB_PRT")
    assert "none.toml is not there" in usage_error("--config", "none.toml", "config")
    assert "worker.roles.0" in usage_error("worker", "--role", "cooking")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["replay", "--shadow", "V2"], "generation (RECSYS_GENERATION)"),
        (["promote", "V2"], "generation (RECSYS_GENERATION)"),
        (["replay", "a.csv", "--prefix", "Shop_1"], "prefix (RECSYS_PREFIX)"),
        (["replay", "a.csv", "--prefix", ""], "prefix (RECSYS_PREFIX)"),
    ],
)
def test_a_name_on_the_command_line_is_checked_as_its_setting_is(tmp_path, arguments, told):
    (tmp_path / "a.csv").write_text("userId,movieId,timestamp\n1,2,1700000000\n")
    assert told in usage_error(*arguments)


def test_a_source_that_nobody_offers_is_a_wrong_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_RANK__SOURCES", "foo")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    rows = [f"{n % 3},{n % 5},{1_700_000_000 + n}" for n in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["userId,movieId,timestamp", *rows]))
    assert "rank.sources (RECSYS_RANK__SOURCES): no source" in usage_error("evaluate", "a.csv")
    worker = [sys.executable, "-m", "recsys", "worker"]
    done = subprocess.run(worker, check=False, capture_output=True, text=True, timeout=200)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "rank.sources (RECSYS_RANK__SOURCES): no source is called 'foo'" in done.stderr


def test_output_that_nobody_takes_is_no_error(tmp_path):
    code = "import os, sys; os.close(1); os.close(2); os.execv(sys.argv[1], sys.argv[1:])"
    log = ROOT / "recsys" / "sample" / "online-retail.csv.gz"
    command = [sys.executable, "-c", code, sys.executable, "-m", "recsys", "evaluate"]
    command += [str(log), "--limit", "400", "--methods", "popularity"]
    assert subprocess.run(command, check=False, cwd=tmp_path, timeout=200).returncode == 0


def test_config_prints_the_effective_settings(tmp_path, monkeypatch):
    (tmp_path / "recsys.toml").write_text("partitions = 6")
    monkeypatch.setenv("RECSYS_WORKER__WEB_PORT", "7000")
    data = json.loads(recsys("config", "--json").stdout)
    assert (data["partitions"], data["worker"]["web_port"], data["broker"]) == (6, 7000, NOBODY)
    shown = recsys("config").stdout
    (tmp_path / "recsys.toml").write_text(shown)  # what is shown can be read back
    assert json.loads(recsys("config", "--json").stdout) == data
    template = recsys("config", "--template").stdout
    assert "# web_port = 6066" in template


def test_schema_prints_and_writes(tmp_path):
    document = json.loads(recsys("schema").stdout)
    assert document["asyncapi"] == "3.0.0"
    assert "properties" in recsys("schema", "--topic", "behaviour.v1").stdout
    assert "there are behaviour.v1" in failure("schema", "--topic", "x")
    assert recsys("schema", str(tmp_path / "docs")).exit_code == 0
    assert (tmp_path / "docs" / "schema" / "behaviour.v1.json").is_file()


def test_a_dry_run_checks_a_file_and_needs_no_broker(tmp_path):
    lines = [body(), b"nonsense", body(value=-1), body(item_id="i2")]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    data = json.loads(recsys("produce", "a.jsonl", "--dry-run", "--json").stdout)
    assert (data["sent"], data["refused"], data["dry_run"]) == (2, 2, True)
    assert data["reasons"] == {"not-json": 1, "range": 1}
    assert [(e["line"], e["field"]) for e in data["refused_lines"]] == [(2, "row"), (3, "value")]
    shown = recsys("produce", "a.jsonl", "--dry-run")
    assert shown.exit_code == 0
    assert "2 lines refused" in shown.stderr
    assert "value" in shown.stdout
    assert json.loads(recsys("replay", "a.jsonl", "--dry-run", "--json").stdout)["sent"] == 2


def test_a_file_without_one_good_line_is_a_failure(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(body(type="buy"))
    assert recsys("produce", "a.jsonl", "--dry-run").exit_code == 1


def test_what_was_concluded_of_a_file_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("userId,movieId,timestamp\n1,2,1700000000\n")
    said = recsys("produce", "a.csv", "--dry-run").stderr
    assert "item_id is read from the column movieId" in said
    assert "timestamps are taken for seconds" in said


def test_no_local_broker_is_said_and_exits_with_1(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = recsys("broker", "show", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"running": False})
    assert "recsys broker start" in recsys("broker", "show").stderr
    assert json.loads(recsys("broker", "stop", "--json").stdout) == {"stopped": False}


def test_an_unexpected_error_is_one_sentence_too(monkeypatch):
    monkeypatch.setattr("recsys.commands.config.template", lambda: 1 / 0)
    told = failure("config", "--template")
    assert "unexpected ZeroDivisionError" in told
    assert "--debug" in told


def test_values_of_fields_are_json_where_they_can_be():
    fields = parse_fields(["a=1", "b=x", "c=null", 'd="2"', "e=a=b"])
    assert fields == {"a": 1, "b": "x", "c": None, "d": "2", "e": "a=b"}


def test_photo_commands_say_what_is_wrong_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("id\n1\n")
    (tmp_path / "no.index").write_text("no index")
    (tmp_path / "no.jpg").write_text("no photo")
    sentences = {
        "no photos below": failure("train", "classifier", "empty"),
        "no.index is no index": failure("index", "inspect", "no.index"),
        "no columns item_id and image": failure("pictures", "list.csv"),
        "neither JPEG nor PNG nor WebP": failure("upload", "no.jpg", "--user", "u"),
        "no arrays `images`": failure("train", "mapping", "no.jpg"),
        "no Kafka answers": failure("train", "siamese"),
    }
    for words, said in sentences.items():
        assert words in said
        assert "unexpected" not in said


def test_an_index_is_built_extended_and_searched_by_photo(tmp_path, monkeypatch):
    """Without a broker: pictures from folders, and a photo from its file."""
    monkeypatch.setenv("RECSYS_IMAGES__ENCODER", "colour-histogram")
    catalogue = SAMPLE / "catalogue"
    (tmp_path / "more").mkdir()
    for name in ("hat-01", "hat-02", "shoes-03"):
        (tmp_path / "more" / f"{name}.jpg").write_bytes((catalogue / f"{name}.jpg").read_bytes())
    uploads = str(SAMPLE / "uploads")

    def told(*words):
        done = recsys(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    built = told("index", "build", "p.index", "--from", uploads)
    assert built["encoder"] == "colour-histogram@1"
    added = told("index", "add", "p.index", "--from", "more")
    assert added["vectors"] > built["vectors"]
    assert told("index", "inspect", "p.index") == added
    [nearest, *_] = told("similar", str(catalogue / "shoes-03.jpg"), "--index", "p.index")
    assert nearest["item_id"] == "shoes-03"
    assert nearest["cosine"] > 0.99
    monkeypatch.setenv("RECSYS_IMAGES__ENCODER", "hog")
    assert "holds vectors of colour-histogram@1" in failure(
        "index", "add", "p.index", "--from", "more"
    )


def test_a_classifier_is_trained_on_a_folder(tmp_path):
    pytest.importorskip("sklearn")
    for n in range(1, 13):
        for label in ("hat", "pants"):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            data = (SAMPLE / "catalogue" / f"{label}-{n:02d}.jpg").read_bytes()
            (tmp_path / "photos" / label / f"{n}.jpg").write_bytes(data)
    words = ("train", "classifier", "photos", "--kind", "svm", "--encoder", "colour-histogram",
             "--licence", "CC0-1.0", "--views", "2")  # fmt: skip
    done = recsys(*words, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["settings"]["classes"] == ["hat", "pants"]
    assert told["data"]["licence"] == "CC0-1.0"
    assert "cpu_seconds" in told["metrics"]
    shown = recsys(*words)
    assert "Written to" in shown.stderr
    assert "test accuracy" in shown.stdout


def test_tables_show_what_clients_wrote_and_do_nothing_of_it(capsys):
    rows = [{"user": "[/u]", "title": "\x1b]0;mine\x07 \x9b5m[red]x"}]
    print_table("of [/u] \x1b[2J", rows, ["user", "title"])
    shown = capsys.readouterr().out
    assert "[/u]" in shown
    assert "[red]x" in shown
    assert not set("\x1b\x07\x9b") & set(shown)
