"""docker-compose.yml against the code: services, roles, health checks, names of settings."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from recsys import settings
from recsys.commands import worker as worker_command
from streams.kafka_runtime import read_lock

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
ROLES = settings.Role.__args__


def test_there_is_a_worker_a_role_and_each_can_be_scaled():
    for role in ROLES:
        service = SERVICES[role]
        assert service["command"] == ["worker", "--role", role]
        assert "container_name" not in service
        assert "ports" not in service
        assert service["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    assert worker_command.worker.__doc__


def test_topics_are_made_before_the_workers_and_after_kafka():
    assert SERVICES["topics"]["command"] == ["topics", "create"]
    assert SERVICES["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"


def test_kafka_is_the_pinned_one_in_kraft_mode_and_has_a_health_check():
    kafka = SERVICES["kafka"]
    pinned = next(jar.version for jar in read_lock() if jar.artifact == "kafka_2.13")
    assert kafka["image"] == f"apache/kafka:{pinned}"
    assert kafka["environment"]["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert kafka["healthcheck"]["test"]


def test_every_variable_is_a_setting():
    for name, service in SERVICES.items():
        given = [key for key in service.get("environment", {}) if key.startswith("RECSYS_")]
        assert settings.unknown_variables(dict.fromkeys(given, "")) == [], name
    image = (ROOT / "Dockerfile").read_text()
    assert "RECSYS_DATA_DIR" in image
    assert f":{settings.Worker().web_port}/health/ready" in image


def test_nothing_is_published_beyond_this_machine_and_nobody_gains_privileges():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert ":latest" not in service["image"] or service.get("build") == ".", name


def test_compose_accepts_the_file():
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    version = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if version.returncode:
        pytest.skip("docker compose is not installed")
    told = subprocess.run(
        ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
