import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiokafka import TopicPartition
from PIL import Image

import recsys
from models import encoder as encoders
from models import index_file
from models.image import decode
from recsys import photo_index
from recsys.contact_sheet import Line, contact_sheet
from recsys.photo_index import (
    PhotoIndex,
    PicturesError,
    add_pictures,
    catalogue_pictures,
    follow_topic,
)
from recsys.uploads import UploadError, prepare, upload
from streams.connection import Connection
from streams.replay import ReplayError
from tests.models.hostile_images import encoded, picture, png, with_exif

SAMPLE = Path(recsys.__file__).parent / "sample" / "clothing"


@pytest.fixture
def index(tmp_path):
    encoder = encoders.load("colour-histogram", tmp_path)
    found = PhotoIndex.empty(encoder.id, encoder.dim)
    pictures = list(catalogue_pictures(SAMPLE))[:40]
    done = []
    assert add_pictures(found, encoder, pictures, done.append) == []
    assert done[-1] == 40
    return found


def test_the_sample_is_a_catalogue_with_pictures():
    pictures = list(catalogue_pictures(SAMPLE))
    assert len(pictures) == 180
    assert pictures[0] == ("dress-01", SAMPLE / "catalogue" / "dress-01.jpg")
    assert all(decode(path.read_bytes()).size for _, path in pictures)
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*")) < 2_000_000


def test_a_folder_names_items_by_file():
    assert ("hat-01", SAMPLE / "uploads" / "hat-01.jpg") in catalogue_pictures(SAMPLE / "uploads")


def test_a_catalogue_that_names_what_is_not_there(tmp_path):
    (tmp_path / "products.csv").write_text("item_id,image\na,none.jpg\n")
    with pytest.raises(ValueError, match=r"none\.jpg"):
        list(catalogue_pictures(tmp_path))
    (tmp_path / "products.csv").write_text("id\n1\n")
    with pytest.raises(ValueError, match="no columns"):
        list(catalogue_pictures(tmp_path))


def test_an_item_finds_itself_first(index):
    assert index.search(index.vector("dress-03"), 1)[0][0] == "dress-03"
    assert index.search(index.vector("dress-03"), 1)[0][1] == pytest.approx(1, abs=1e-5)
    assert index.vector("none") is None


def test_items_are_replaced_and_removed(index):
    index.put("dress-03", index.vector("hat-02"))
    assert len(index.saved.index) == 40
    names = {name for name, _ in index.search(index.vector("hat-02"), 2)}
    assert names == {"dress-03", "hat-02"}
    index.remove("dress-03")
    index.remove("none")
    assert index.vector("dress-03") is None


def test_is_read_back_from_its_file(index, tmp_path):
    index.saved.offsets["recsys.item-embeddings.v1/0"] = 7
    index_file.save(tmp_path / "i", index.saved)
    again = PhotoIndex(index_file.load(tmp_path / "i"))
    vector = index.vector("hat-02")
    assert [n for n, _ in again.search(vector, 5)] == [n for n, _ in index.search(vector, 5)]
    assert again.saved.offsets == {"recsys.item-embeddings.v1/0": 7}


def test_bad_pictures_are_named_and_spoil_no_other(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(picture(), "JPEG"))
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    encoder = encoders.load("colour-histogram", tmp_path)
    index = PhotoIndex.empty(encoder.id, encoder.dim)
    bad = add_pictures(index, encoder, list(catalogue_pictures(tmp_path)), lambda _: None)
    assert [(name, error.reason) for name, error in bad] == [("b", "not-image")]
    assert index.saved.names == ["a"]


def test_photos_are_made_ready_to_send(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(3000, 1500))
    image = decode(prepare(path), "image/jpeg")
    assert image.size == (512, 256)
    path.write_bytes(with_exif((0x0112, 3, 1, 6)))
    with Image.open(path) as turned:
        assert turned.getexif()[0x0112] == 6
    ready = tmp_path / "ready.jpg"
    ready.write_bytes(prepare(path))
    with Image.open(ready) as upright:
        assert upright.size == (120, 160)
        assert not upright.getexif()


@pytest.mark.parametrize("content", [b"", b"no picture", png(1, 1), png(60_000, 60_000, b"")])
def test_what_is_no_photo_is_said_before_it_is_sent(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(UploadError, match=r"photo\.jpg is no photo"):
        prepare(path)
    with pytest.raises(UploadError, match="cannot be read"):
        prepare(tmp_path / "none.jpg")


def test_the_contact_sheet_shows_photo_and_products():
    photo = Image.new("RGB", (100, 50), (255, 0, 0))
    lines = [Line("a", "0.9 looks like your photo"), Line("b" * 80, "0.1"), Line("c", "")]
    pictures = {"a": Image.new("RGB", (50, 50), (0, 0, 255))}
    sheet = contact_sheet(photo, lines, pictures, "photo.jpg")
    colours = {colour for _, colour in sheet.getcolors(maxcolors=100_000)}
    assert {(255, 0, 0), (0, 0, 255), (235, 235, 235)} <= colours
    many = contact_sheet(photo, [Line(str(n), "") for n in range(12)], {}, "")
    assert many.height > sheet.height
    assert np.asarray(sheet).std() > 0


def test_a_photo_that_is_too_narrow_when_scaled_down_is_not_sent(tmp_path):
    Image.new("RGB", (3000, 20), "red").save(tmp_path / "banner.png")
    with pytest.raises(UploadError, match="too narrow to be scaled down: 1024 x 7 pixels"):
        prepare(tmp_path / "banner.png")


@pytest.mark.parametrize("user", ["", " ", "x" * 300, "\ud800"])
async def test_who_cannot_be_a_user_is_said_before_it_is_sent(user):
    with pytest.raises(UploadError, match="the user's id"):
        await upload(Connection("127.0.0.1:1"), "recsys", user, b"", 10, 1)


def test_two_files_of_a_folder_that_name_one_item_are_said(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "one.jpg").touch()
    with pytest.raises(PicturesError, match=r"a/one\.jpg and .*b/one\.jpg name one item"):
        list(catalogue_pictures(tmp_path))


@pytest.mark.parametrize(
    ("rows", "told"), [(",a.jpg", "names no item"), ("a,a.jpg\na,a.jpg", "the item a twice")]
)
def test_a_catalogue_names_each_item_once(tmp_path, rows, told):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "products.csv").write_text(f"item_id,image\n{rows}\n")
    with pytest.raises(PicturesError, match=told):
        list(catalogue_pictures(tmp_path))


def test_a_pipe_is_no_picture_and_no_catalogue(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UploadError, match="is no file"):
        prepare(tmp_path / "pipe.jpg")
    with pytest.raises(PicturesError, match="neither a file nor a folder"):
        list(catalogue_pictures(tmp_path / "pipe.jpg"))


def test_a_folder_with_a_pictures_name_is_no_picture(tmp_path):
    (tmp_path / "album.jpg").mkdir()
    assert list(catalogue_pictures(tmp_path)) == []


def test_a_list_of_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "products.csv").write_text("\ufeffitem_id,image\na,a.jpg\n", "utf-8")
    assert list(catalogue_pictures(tmp_path)) == [("a", tmp_path / "a.jpg")]
    (tmp_path / "products.csv").write_text("item_id,image\na\n")
    with pytest.raises(ValueError, match="line 2 has too few values"):
        list(catalogue_pictures(tmp_path))


TP = TopicPartition("recsys.item-embeddings.v1", 0)


class Reader:
    """A consumer of a topic that ends at 5, and whose broker says nothing more."""

    place = 0

    def assign(self, tps):
        assert tps == [TP]

    async def beginning_offsets(self, tps):
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps):
        return dict.fromkeys(tps, 5)

    def seek(self, _tp, offset):
        self.place = offset

    async def position(self, _tp):
        return self.place

    async def getmany(self, timeout_ms):
        await asyncio.sleep(0.01)
        return {}


@pytest.fixture
def _silent(monkeypatch):
    @asynccontextmanager
    async def opened(_connection):
        yield Reader()

    async def partitions(_consumer, _topic):
        return [TP]

    monkeypatch.setattr(photo_index, "open_reader", opened)
    monkeypatch.setattr(photo_index, "partitions_of", partitions)


@pytest.mark.usefixtures("_silent")
async def test_following_gives_up_on_a_silent_broker():
    with pytest.raises(ReplayError, match=r"no broker answered for 0\.1 s"):
        await asyncio.wait_for(
            follow_topic(Connection("broker:9092"), "recsys", "e@1", None, 0.1), 5
        )


@pytest.mark.usefixtures("_silent")
async def test_an_index_that_knows_more_than_the_topic_is_refused():
    index = PhotoIndex.empty("e@1", 3)
    index.saved.offsets[f"{TP.topic}/0"] = 5
    assert await follow_topic(Connection("broker:9092"), "recsys", "e@1", index, 0.1) is index
    index.saved.offsets[f"{TP.topic}/0"] = 6
    with pytest.raises(PicturesError, match="was made anew: recsys index build"):
        await follow_topic(Connection("broker:9092"), "recsys", "e@1", index, 0.1)
