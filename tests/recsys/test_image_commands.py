"""What the commands on photos say of ordinary mistakes: one sentence."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models import encoder as encoders
from models.index_file import save
from recsys import uploads
from recsys.cli import app
from recsys.photo_index import PhotoIndex
from streams.events import RankedList, Trigger
from streams.replay import ReplayError
from tests.models.hostile_images import encoded, picture

NOBODY = "127.0.0.1:1"  # a port where nothing answers


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("RECSYS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_BROKER", NOBODY)
    monkeypatch.setenv("RECSYS_IMAGES__ENCODER", "colour-histogram")
    monkeypatch.setenv("RECSYS_IMAGES__ENCODER_ID", "colour-histogram@1")


def recsys(*arguments):
    return CliRunner().invoke(app, list(arguments))


def failure(*arguments):
    """Exit code 1, nothing on standard output, one sentence that we thought of."""
    result = recsys(*arguments)
    assert result.exit_code == 1, result.output
    assert not result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert "unexpected" not in result.stderr
    assert "None" not in result.stderr
    return result.stderr


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.png").write_bytes(encoded(picture(seed=n), "PNG"))
    return folder


@pytest.fixture
def index(tmp_path):
    encoder = encoders.load("colour-histogram", tmp_path)
    found = PhotoIndex.empty(encoder.id, encoder.dim)
    found.put("a", encoder.encode([picture()])[0])
    save(tmp_path / "products.index", found.saved)
    return "products.index"


def test_an_index_that_is_not_there():
    assert "nofile cannot be read: No such file" in failure("index", "inspect", "nofile")
    assert "cannot be read: No such file" in failure("similar", "a", "--index", "nofile")


def test_a_folder_that_is_not_there_is_said_before_the_work(pictures, monkeypatch):
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("it began to work"))
    told = failure("index", "build", "nodir/x.index", "--from", str(pictures))
    assert "there is no folder nodir" in told


def test_an_item_may_have_a_longer_name_than_a_file(index):
    assert "neither a file nor an item" in failure("similar", "x" * 256, "--index", index)


def test_a_catalogue_in_another_encoding(pictures):
    (pictures / "products.csv").write_bytes(b"item_id,image\nm\xfctze,0.png\n")
    assert "not in UTF-8" in failure("index", "build", "x.index", "--from", str(pictures))


def test_an_index_stays_where_there_is_nothing_to_put_into_it(pictures, index):
    kept = Path(index).read_bytes()
    for n in range(3):
        (pictures / f"{n}.png").write_bytes(b"no picture")
    for source in (pictures, pictures / "empty"):
        source.mkdir(exist_ok=True)
        result = recsys("index", "build", index, "--from", str(source))
        assert result.exit_code == 1
        assert "holds no picture that could be taken" in result.stderr
        assert Path(index).read_bytes() == kept
    assert "there are no pictures in" in failure("pictures", str(pictures / "empty"))


def test_a_refused_picture_is_a_failure_of_the_rest_that_was_taken(pictures):
    (pictures / "0.png").write_bytes(b"no picture")
    result = recsys("index", "build", "x.index", "--from", str(pictures), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["vectors"] == 2


def test_a_folder_with_a_pictures_name(pictures):
    (pictures / "album.jpg").mkdir()
    result = recsys("index", "build", "x.index", "--from", str(pictures), "--json")
    assert json.loads(result.stdout)["vectors"] == 3


def test_a_bundles_name_that_is_none(pictures):
    for label in ("hat", "shoe"):
        shutil.copytree(pictures, f"photos/{label}")
    assert "no name of a bundle" in failure("train", "classifier", "photos", "--name", "../evil")


def answered(monkeypatch):
    ranked = RankedList(
        user_id="u", items=[], trigger=Trigger(kind="upload", topic="t", partition=0, offset=0),
        event_time=0, produced_time=0, list_id="1", model_version="m", variant="main",
    )  # fmt: skip

    async def upload(*_):
        return uploads.Answer(ranked, 1.0)

    async def no_pictures(*_):
        raise ReplayError("no Kafka answers")

    monkeypatch.setattr(uploads, "upload", upload)
    monkeypatch.setattr(uploads, "pictures_of", no_pictures)


def test_the_list_is_printed_whatever_becomes_of_its_picture(pictures, monkeypatch):
    answered(monkeypatch)
    photo = str(pictures / "0.png")
    result = recsys("upload", photo, "--user", "u", "--sheet", "answer.png", "--json")
    assert (result.exit_code, result.stderr) == (1, "recsys: no Kafka answers\n")
    assert json.loads(result.stdout)["user_id"] == "u"
    told = failure("upload", photo, "--user", "u", "--sheet", "nodir/x.png")
    assert "there is no folder nodir" in told
