"""Checkpoints: whole or not there, and never believed when damaged."""

import os

import numpy as np
import pytest

from models.checkpoint import MAGIC, CheckpointError, load, save

CONTENT = {
    "rows": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "none": np.empty((0, 7), np.float32),
    "scalar": np.array(3.5),
    "names": ["a", "", "ü\0x", "long" * 100],
    "nobody": [],
}


def test_what_was_saved_comes_back(tmp_path):
    path = tmp_path / "state"
    save(path, CONTENT, kind="users", version=3)
    content = load(path, kind="users", version=3)
    assert list(content) == list(CONTENT)
    for name, value in CONTENT.items():
        if isinstance(value, list):
            assert content[name] == value
        else:
            np.testing.assert_array_equal(content[name], value)
            assert content[name].dtype == value.dtype
            assert content[name].flags.writeable
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_its_owner_alone_may_read_it(tmp_path):
    path = tmp_path / "state"
    (tmp_path / f".state.{os.getpid()}").write_text("what a killed one with our number left")
    before = os.umask(0o022)
    try:
        save(path, CONTENT, kind="users", version=3)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path, kind="users", version=3)["names"] == CONTENT["names"]


def test_every_damaged_byte_is_noticed(tmp_path):
    path = tmp_path / "state"
    save(path, CONTENT, kind="users", version=3)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0x41
        path.write_bytes(damaged)
        try:
            content = load(path, kind="users", version=3)
        except CheckpointError:
            continue
        raise AssertionError(f"byte {at} of {len(whole)} was believed: {list(content)}")
    for length in (0, 5, len(MAGIC) + 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load(path, kind="users", version=3)


def test_another_kind_or_version_is_refused(tmp_path):
    path = tmp_path / "state"
    save(path, CONTENT, kind="users", version=3)
    with pytest.raises(CheckpointError, match="users 3"):
        load(path, kind="items", version=3)
    with pytest.raises(CheckpointError, match="wanted users 4"):
        load(path, kind="users", version=4)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing", kind="users", version=3)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "state"
    save(path, {"a": np.arange(3)}, kind="users", version=1)
    with pytest.raises(TypeError):
        save(path, {"a": np.array([object()])}, kind="users", version=1)
    assert load(path, kind="users", version=1)["a"].tolist() == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 1
