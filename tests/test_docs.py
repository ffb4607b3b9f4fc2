"""The documents say what the code does: every command, setting, topic, header and metric."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys import reference
from recsys.cli import app
from recsys.settings import leaves, variable_of
from streams import schema
from streams.topics import TOPICS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
COMMANDS = dict(reference.commands())
EXAMPLES = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip().startswith("recsys ")
]


def test_the_reference_is_up_to_date():
    assert reference.page() == REFERENCE, "write it anew with: recsys schema docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_in_the_reference(name):
    assert f"### `{name}`" in REFERENCE
    assert len(COMMANDS[name].help) > 20
    result = CliRunner().invoke(app, [*name.split()[1:], "--help"])
    assert result.exit_code == 0
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"


def test_every_noun_of_the_command_line_is_in_the_readme():
    nouns = {name.split()[1] for name in COMMANDS}
    missing = {noun for noun in nouns if f"recsys {noun}" not in README} - {"schema", "config"}
    missing -= {"demo"} if "make demo" in README else set()
    assert not missing


def test_every_topic_for_others_is_in_the_readme():
    for topic in TOPICS:
        assert f"`{topic.name()}`" in REFERENCE
        if topic.public:
            assert topic.name() in README


def test_every_setting_and_header_is_in_the_reference():
    for path, _ in leaves():
        assert f"| `{path}` | `{variable_of(path)}` |" in REFERENCE
    for topic in TOPICS:
        for header in schema.headers_of(topic):
            assert f"| `{header}` |" in REFERENCE
    for header in (*schema.DEAD_LETTER_HEADERS, *schema.RESOLVED_HEADER):
        assert f"| `{header}` |" in REFERENCE


def test_there_are_examples():
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_readmes_examples_use_commands_and_options_that_exist(line):
    words = line.partition("#")[0].split()
    name = next(n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in COMMANDS)
    options = {option for each in COMMANDS[name].params for option in each.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= options, f"{name} has no {used - options}"


def test_variables_named_in_the_documents_exist():
    known = {variable_of(path) for path, _ in leaves()} | {"RECSYS_CONFIG"}
    texts = [README, *(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))]
    named = {name for text in texts for name in re.findall(r"\bRECSYS_[A-Z_]*[A-Z]\b", text)}
    assert named <= known
    assert "RECSYS_BROKER" in named


def test_links_in_the_readme_lead_to_files():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_metric_is_in_the_reference_once():
    rows = [line.split("`")[1] for line in REFERENCE.splitlines() if line.startswith("| `recsys_")]
    assert len(rows) == len(set(rows))
    assert {"recsys_answers_total", "recsys_lag_records", "recsys_lanes"} <= set(rows)
    assert {"recsys_transactions_total", "recsys_stage_seconds_total", "recsys_users"} <= set(rows)
