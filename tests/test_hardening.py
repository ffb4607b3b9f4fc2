"""What must never come in: pickles, public listeners, known holes in what we depend on."""

import ast
import ipaddress
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.settings import Settings
from streams.local_kafka import HOST

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for package in ("streams", "models", "recsys") for path in (ROOT / package).rglob("*.py")
)
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Reads the published weights of an encoder with an unpickler that admits four names and no others;
# tests/models/test_torch_file.py tries to smuggle more in.
ADMITS_FOUR_NAMES = ROOT / "models" / "torch_file.py"
TRAINS = {
    "alexnet.py", "classifier_training.py", "finetuning.py", "siamese_training.py", "training.py",
}  # fmt: skip
ANYWHERE = re.compile(r"\b(0\.0\.0\.0|::)\b")


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, by the dotted name of what is called."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def given(call: ast.Call, name: str) -> object:
    """A constant keyword argument of a call."""
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return keyword.value.value
    return None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if path != ADMITS_FOUR_NAMES:
            assert not {name.partition(".")[0] for name in names} & UNPICKLERS
    for name, call in calls(path):
        if name == "torch.load":
            assert given(call, "weights_only") is True, f"line {call.lineno}"
        if name in ("np.load", "numpy.load"):
            assert given(call, "allow_pickle") is not True, f"line {call.lineno}"
        assert name not in (
            "pickle.load",
            "pickle.loads",
            "eval",
            "exec",
            "yaml.load",
            "pd.read_pickle",
        ), f"line {call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_what_trains_imports_torch(path):
    if path.name not in TRAINS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert "torch" not in {name.partition(".")[0] for name in names}


def test_all_roles_but_that_of_images_need_no_library_of_images():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('onnxruntime', 'PIL', 'torch'))); "
        "import recsys.item_lanes, recsys.refit, recsys.user_lanes, recsys.worker; "
        "import recsys.commands.replay, recsys.commands.worker"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_names_a_public_address_to_listen_on(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not ANYWHERE.search(node.value), f"line {node.lineno}"


def test_the_defaults_listen_on_loopback():
    assert ipaddress.ip_address(Settings().worker.web_host).is_loopback
    assert ipaddress.ip_address(HOST).is_loopback


def test_a_worker_at_work_listens_on_loopback_alone(local_broker, prefix, tmp_path):
    """Seen from outside the code: the sockets of the process itself."""
    import asyncio

    from tests.e2e.harness import Shop

    if not Path("/proc/net/tcp").exists():
        pytest.skip("no /proc/net/tcp here")
    shop = Shop(local_broker.bootstrap, prefix, tmp_path)

    async def run() -> set[str]:
        await shop.create()
        worker = shop.start()
        await worker.until_ready()
        return listening(worker.process.pid)

    try:
        found = asyncio.run(run())
    finally:
        asyncio.run(shop.remove())
    assert len(found) == 1
    assert all(ipaddress.ip_address(address).is_loopback for address in found)


def listening(pid: int) -> set[str]:
    """Addresses on which a process of ours accepts connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
                found.add(str(ipaddress.ip_address(b"".join(words))))
    return found


@pytest.mark.slow
def test_no_dependency_has_a_known_hole():
    """By pip-audit, over what is installed; it asks the network, so only when told to."""
    if not os.environ.get("RECSYS_TEST_AUDIT"):
        pytest.skip("set RECSYS_TEST_AUDIT=1: it asks the vulnerability service")
    told = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(told.stdout)["dependencies"]
    holes = {each["name"]: each["vulns"] for each in found if each.get("vulns")}
    assert not holes
    # What could not be looked up is not clean; we ourselves are on no index.
    unknown = {each["name"] for each in found if "skip_reason" in each} - {"recsys"}
    assert not unknown
