import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from recsys import settings as module
from recsys.settings import (
    Section,
    Settings,
    SettingsError,
    load,
    overlaid,
    setting,
    variable_of,
)
from recsys.settings_text import MASK, described, effective, reference, template
from streams.events import EVENT_TYPES


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in list(module.os.environ):
        if name.startswith("RECSYS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(**given):
    with pytest.raises(SettingsError) as caught:
        load(**given)
    return str(caught.value)


def test_environment_before_file_before_defaults(monkeypatch, tmp_path):
    assert (load().partitions, load().worker.web_port) == (24, 6066)
    (tmp_path / "recsys.toml").write_text("partitions = 6\n[worker]\nweb_port = 7000\n")
    assert (load().partitions, load().worker.web_port) == (6, 7000)
    monkeypatch.setenv("RECSYS_WORKER__WEB_PORT", "8000")
    assert (load().partitions, load().worker.web_port) == (6, 8000)
    assert load(partitions=3).partitions == 3
    monkeypatch.setenv("RECSYS_PARTITIONS", "")
    assert load().partitions == 6


def test_the_file_may_be_named(monkeypatch, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("partitions = 2")
    assert load(other).partitions == 2
    monkeypatch.setenv("RECSYS_CONFIG", str(other))
    assert load().partitions == 2
    monkeypatch.setenv("RECSYS_CONFIG", str(tmp_path / "none.toml"))
    assert "none.toml is not there" in refused()


def test_every_table_has_an_example_that_can_be_read(monkeypatch):
    assert {path for path, kind in module.leaves() if kind == dict[str, float]} == set(
        module.TABLES
    )
    for path, example in module.TABLES.items():
        monkeypatch.setenv(module.variable_of(path), example)
    assert (load().events.weights["view"], load().rank.variants) == (0.3, {"wide.toml": 0.5})


def test_lists_and_weights_come_from_variables(monkeypatch):
    monkeypatch.setenv("RECSYS_WORKER__ROLES", "items, behaviour")
    monkeypatch.setenv("RECSYS_RANK__SOURCES", '["popular"]')
    monkeypatch.setenv("RECSYS_EVENTS__WEIGHTS__RETURN", "-1")
    monkeypatch.setenv("RECSYS_DATA_DIR", "/tmp/elsewhere")
    got = load()
    assert got.worker.roles == ("items", "behaviour")
    assert got.rank.sources == ("popular",)
    assert got.events.weights["return"] == -1
    assert set(got.events.weights) == set(EVENT_TYPES)
    assert str(got.data_dir) == "/tmp/elsewhere"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("RECSYS_WORKER__WEB_PRT", "1", "did you mean RECSYS_WORKER__WEB_PORT?"),
        ("RECSYS_NOTHING_LIKE_IT", "1", "RECSYS_NOTHING_LIKE_IT is no setting"),
        ("RECSYS_WORKER", "{}", "RECSYS_WORKER is no setting"),
        ("RECSYS_WORKER__WEB_PORT", "much", "worker.web_port (RECSYS_WORKER__WEB_PORT)"),
        ("RECSYS_WORKER__WEB_PORT", "70000", "worker.web_port (RECSYS_WORKER__WEB_PORT)"),
        ("RECSYS_WORKER__ROLES", "cooking", "worker.roles.0 (RECSYS_WORKER__ROLES)"),
        ("RECSYS_WORKER__SESSION_TIMEOUT_MS", "2000", "3 times heartbeat_interval_ms"),
        ("RECSYS_EVENTS__WEIGHTS__BUY", "1", "'buy' is no event type"),
        ("RECSYS_EVENTS__WEIGHTS__VIEW", "1e9", "weight of view"),
        ("RECSYS_STATE__USER_TTL_DAYS", "nan", "state.user_ttl_days"),
        ("RECSYS_STATE__USER_TTL_DAYS", "1e308", "state.user_ttl_days (RECSYS_STATE__USER_TTL"),
        ("RECSYS_WORKER__READY_LAG_RECORDS_MAX", "9" * 400, "worker.ready_lag_records_max"),
        ("RECSYS_WORKER__CPUS", "0,-1", "worker.cpus.1 (RECSYS_WORKER__CPUS)"),
        ("RECSYS_WORKER__WATCHDOG_S", "1e-9", "worker.watchdog_s"),
        ("RECSYS_BROKER", "kafka", "broker (RECSYS_BROKER): 'kafka' is not host:port"),
        ("RECSYS_BROKER", "a:9092,b:99999", "'b:99999' is not host:port"),
        ("RECSYS_PREFIX", "Shop_1", "prefix (RECSYS_PREFIX)"),
        ("RECSYS_ITEM_PARTITIONS", "2", "item_partitions (RECSYS_ITEM_PARTITIONS)"),
        (
            "RECSYS_EVENTS__WEIGHTS",
            "{view = 0.3}",
            """RECSYS_EVENTS__WEIGHTS must be a table in \
JSON, as {"view": 0.3}""",
        ),
        ("RECSYS_RANK__VARIANTS", "[1]", "RECSYS_RANK__VARIANTS must be a table in JSON, as {"),
        ("RECSYS_EVENTS__WEIGHTS", '{"view": "x"}', "events.weights.view"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    assert told in refused()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("partitons = 3", "partitons is no setting; did you mean partitions?"),
        ("[worker]\nweb_prt = 3", "worker.web_prt is no setting; did you mean worker.web_port?"),
        ("[wrker]\nweb_port = 3", "wrker is no setting"),
        ("partitions = 'many'", "partitions (RECSYS_PARTITIONS)"),
        ("worker = 3", "worker (RECSYS_WORKER)"),
        ("partitions = = 3", "recsys.toml: "),
    ],
)
def test_a_wrong_line_of_the_file_is_named(tmp_path, text, told):
    (tmp_path / "recsys.toml").write_text(text)
    assert told in refused()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"RECSYS_PARTITIONS": "3", "recsys_partitions": "4"},
            "RECSYS_PARTITIONS and recsys_partitions give one setting",
        ),
        (
            {"RECSYS_EVENTS__WEIGHTS": '{"view": 0.3}', "RECSYS_EVENTS__WEIGHTS__VIEW": "0.1"},
            "RECSYS_EVENTS__WEIGHTS and RECSYS_EVENTS__WEIGHTS__VIEW give one setting",
        ),
    ],
)
def test_one_setting_from_two_variables_is_refused(monkeypatch, given, told):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert told in refused()


def test_a_table_and_another_entry_of_it_go_together(monkeypatch):
    monkeypatch.setenv("RECSYS_EVENTS__WEIGHTS", '{"view": 0.3}')
    monkeypatch.setenv("RECSYS_EVENTS__WEIGHTS__CART", "0.1")
    weights = load().events.weights
    assert (weights["view"], weights["cart"]) == (0.3, 0.1)


def test_a_folder_is_no_settings_file(tmp_path):
    (tmp_path / "recsys.toml").mkdir()
    assert refused() == "the settings file recsys.toml is a folder"


def test_a_mark_of_the_byte_order_is_no_error(tmp_path):
    (tmp_path / "recsys.toml").write_text("partitions = 7", encoding="utf-8-sig")
    assert load().partitions == 7
    assert overlaid(load(), tmp_path / "recsys.toml").partitions == 7


def test_a_tilde_is_ones_home_where_no_shell_reads_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECSYS_DATA_DIR", "~/data")
    (tmp_path / "recsys.toml").write_text('[security]\nca_file = "~/ca.pem"')
    monkeypatch.setenv("RECSYS_CONFIG", "~/recsys.toml")
    assert load().data_dir == tmp_path / "data"
    assert load().security.ca_file == str(tmp_path / "ca.pem")


def test_the_template_holds_every_setting_at_its_default(tmp_path):
    text = template()
    sections = {path.partition(".")[0] for path, _, _ in described() if "." in path}
    assert {"worker", "events", "state", "rank", "security"} <= sections
    assert tomllib.loads(text) == {name: {} for name in sections}
    values = re.sub(r"^# (\w+ = .*)", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "recsys.toml").write_text(values)
    assert effective(load()) == effective(Settings())
    for path, _, about in described():
        assert about, path
        assert f"`{variable_of(path)}`" in reference()


def test_weights_are_those_of_the_pipeline_and_reach_it(monkeypatch):
    from recsys.pipeline import EVENT_WEIGHTS
    from recsys.pipeline_settings import pipeline_config

    assert module.EVENT_WEIGHTS == EVENT_WEIGHTS
    monkeypatch.setenv("RECSYS_EVENTS__WEIGHTS__VIEW", "0.5")
    monkeypatch.setenv("RECSYS_RANK__SOURCES", "popularity,own")
    config = pipeline_config(load())
    assert config.event_weights == {**EVENT_WEIGHTS, "view": 0.5}
    assert config.sources == ("popularity", "own")
    monkeypatch.delenv("RECSYS_RANK__SOURCES")
    assert pipeline_config(load()).sources is None


def test_lists_are_made_as_the_settings_say(tmp_path):
    from recsys.pipeline_settings import pipeline_config, rules_of

    rules, other = tmp_path / "rules.toml", tmp_path / "wide.toml"
    rules.write_text('[[rule]]\nname = "out"\naction = "exclude"\nitems = ["a"]\n')
    other.write_text("[rank]\ndiversity = 0.5\nexplore_share = 0.1\n")
    (tmp_path / "recsys.toml").write_text(
        f'[rank]\nbrand_share_max = 0.3\nrules_file = "{rules}"\nvariants = {{"{other}" = 0.25}}\n'
    )
    config = pipeline_config(load())
    assert config.rerank.brand_share_max == 0.3
    (variant,) = config.variants
    assert (variant.name, variant.share) == ("wide", 0.25)
    assert variant.rerank.diversity == 0.5
    assert variant.rerank.brand_share_max == 0.3
    assert [rule.name for rule in rules_of(load()).rules] == ["out"]
    other.write_text("[rank]\ncandidates_per_source = 7\n")
    with pytest.raises(SettingsError, match="generation of its own"):
        pipeline_config(load())
    other.write_text("[rank]\ndiversity = 7\n")
    with pytest.raises(SettingsError, match=r"wide\.toml: rank\.diversity"):
        pipeline_config(load())
    rules.write_text("[[rule]]")
    with pytest.raises(SettingsError, match="rules_file"):
        rules_of(load())


def test_the_bounds_of_a_history_are_those_of_the_state(monkeypatch):
    from recsys.user_lanes_config import user_lanes_config

    for inside in (64, 32_768):
        settings = load(state={"user_entries_max": inside})
        assert user_lanes_config(settings, 24).limits.entries_max == inside
    for outside in (63, 32_769):
        monkeypatch.setenv("RECSYS_STATE__USER_ENTRIES_MAX", str(outside))
        assert "state.user_entries_max" in refused()


def test_secrets_are_masked():
    class Security(Section):
        password: SecretStr = setting(SecretStr("hunter2"), "of the broker")
        empty: SecretStr = setting(SecretStr(""), "none")

    assert effective(Security()) == {"password": MASK, "empty": ""}


def test_settings_can_not_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load().partitions = 3


def test_reading_settings_loads_nothing_heavy():
    code = (
        "import sys, recsys.settings; "
        "heavy = {'numpy', 'faust', 'aiokafka', 'numba', 'torch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_every_setting_has_an_effect():
    source = Path(module.__file__)
    code = (
        "".join(path.read_text() for path in source.parent.rglob("*.py") if path != source)
        + Path(module.__file__.replace("recsys/settings.py", "streams/security.py")).read_text()
        + Path(module.__file__.replace("recsys/settings.py", "streams/transaction.py")).read_text()
    )
    for path, _ in module.leaves():
        name = path.rpartition(".")[2]
        assert re.search(rf"\.{name}\b", code), f"nothing reads {path}"


def test_arguments_and_addresses_are_masked_where_they_may_hold_secrets():
    shown = effective(
        Settings(
            security={"token_command": ["curl", "-u", "me:s3cret"]},
            worker={"trace_endpoint": "http://u:s3cret@h:4318/v1"},
        )
    )
    assert "s3cret" not in str(shown)
    assert shown["security"]["token_command"] == ["curl", MASK]
    assert shown["worker"]["trace_endpoint"] == f"http://{MASK}@h:4318/v1"
    shown = effective(Settings(worker={"trace_endpoint": "http://u:p@ss@h:1/x?key=s3cret"}))
    assert shown["worker"]["trace_endpoint"] == f"http://{MASK}@h:1/x?{MASK}"


@pytest.mark.parametrize("host", ["localhost:6066", "http://localhost", "", "a b"])
def test_the_pages_address_is_a_host_alone(host):
    with pytest.raises(SettingsError, match=r"worker\.web_host"):
        load(worker={"web_host": host})


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::1", "fe80::1:2", "::ffff:10.0.0.1"])
def test_names_and_addresses_of_both_kinds_are_hosts(host):
    assert load(worker={"web_host": host}).worker.web_host == host
