"""Snapshots of lanes: what is damaged or of another kind is refused, and never believed."""

import numpy as np
import pytest

from models import checkpoint
from recsys.snapshots import StateSnapshots

CONTENT = {"rows": np.arange(12, dtype=np.int32).reshape(3, 4), "users": ["a", "ü"]}
META = {"state_end": 7, "birth": [0, "x"]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "folder" / "lane.snapshot"
    StateSnapshots().write(path, CONTENT, META)
    return path


def test_what_was_written_is_read(path):
    content, meta = StateSnapshots().read(path)
    np.testing.assert_array_equal(content["rows"], CONTENT["rows"])
    assert content["users"] == ["a", "ü"]
    assert meta == META


def test_there_may_be_none(tmp_path):
    assert StateSnapshots().read(tmp_path / "none") is None


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.99])
def test_a_flipped_bit_or_a_cut_is_refused(path, part):
    whole = bytearray(path.read_bytes())
    at = int(part * len(whole))
    path.write_bytes(whole[:at])
    assert StateSnapshots().read(path) is None
    whole[at] ^= 0x10
    path.write_bytes(whole)
    assert StateSnapshots().read(path) is None


def test_another_version_is_refused(path):
    checkpoint.save(path, {"rows": CONTENT["rows"]}, kind="lane", version=99)
    assert StateSnapshots().read(path) is None
