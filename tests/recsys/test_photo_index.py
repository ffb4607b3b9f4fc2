from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recsys
from models import encoder as encoders
from models import index_file
from models.image import decode
from recsys.contact_sheet import Line, contact_sheet
from recsys.photo_index import PhotoIndex, add_pictures, catalogue_pictures
from recsys.uploads import UploadError, prepare
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
