import os

import numpy as np
import pytest
from PIL import Image

from models import photos as photo_sets
from models.augment import augment
from models.photos import Photo, digest, read_folder, split_by_product
from models.views import cached_views, compute_views
from tests.models.hostile_images import picture


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(40, 30, seed=seed).save(path)


@pytest.fixture
def folder(tmp_path):
    for label in ("hat", "shoe"):
        for n in range(6):
            save(tmp_path / label / f"{n}.png", seed=n + (10 if label == "hat" else 0))
    (tmp_path / "hat" / "notes.txt").write_text("no photo")
    return tmp_path


def test_labels_are_folders(folder):
    photos = read_folder(folder)
    assert len(photos) == 12
    assert {p.label for p in photos} == {"hat", "shoe"}
    assert len({p.product for p in photos}) == 12
    assert {p.product for p in read_folder(folder, label_is_product=True)} == {"hat", "shoe"}
    assert photos[0].open().size == (40, 30)


def test_a_folder_may_be_split_already(tmp_path):
    for split in ("train", "val", "test"):
        save(tmp_path / split / "fruit" / "apple" / "a.png")
    photos = read_folder(tmp_path)
    assert [p.split for p in photos] == ["test", "train", "validation"]
    assert {p.label for p in photos} == {"apple"}
    parts = split_by_product(photos, {"train": 1.0})
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1, "test": 1, "validation": 1,
    }  # fmt: skip


def test_a_list_names_labels_and_products(folder):
    (folder / "photos.csv").write_text(
        "path,label,product,split\nhat/0.png,cap,p1,train\nshoe/1.png,boot,p2,\n"
    )
    first, second = read_folder(folder)
    assert (first.label, first.product, first.split) == ("cap", "p1", "train")
    assert (second.label, second.product, second.split) == ("boot", "p2", "")


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "hat/none.png"])
def test_a_list_stays_in_its_folder(folder, path):
    save(folder.parent / "secret.png")
    (folder / "photos.csv").write_text(f"path,label,product\n{path},a,b\n")
    with pytest.raises(ValueError, match="not in the folder"):
        read_folder(folder)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match="no photos"):
        read_folder(tmp_path)


def test_no_product_lies_in_two_parts(tmp_path):
    photos = [
        Photo(tmp_path / f"{label}{product}{n}.jpg", label, f"{label}{product}")
        for label in "ab"
        for product in range(10)
        for n in range(3)
    ]
    shares = {"train": 0.7, "validation": 0.2, "test": 0.1}
    parts = split_by_product(photos, shares, seed=1)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 42, "validation": 12, "test": 6,
    }  # fmt: skip
    products = [{p.product for p in part} for part in parts.values()]
    assert sum(map(len, products)) == len(set.union(*products)) == 20
    assert parts == split_by_product(photos, shares, seed=1)
    assert parts != split_by_product(photos, shares, seed=2)
    with pytest.raises(ValueError, match="lies in"):
        photo_sets.check_products({"train": photos[:2], "test": photos[2:4]})


def test_the_digest_is_of_content_and_labels(folder, tmp_path):
    photos = read_folder(folder)
    assert digest(photos) == digest(photos[::-1])
    other = [Photo(p.path, "x", p.product) for p in photos]
    assert digest(photos) != digest(other)
    save(photos[0].path, seed=99)
    assert digest(photos) != digest(other)


def test_augmentation_is_decided_by_its_generator():
    image = picture(60, 40)
    one, same, other = (augment(image, np.random.default_rng(n)) for n in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()
    assert augment(Image.new("RGB", (1, 1)), np.random.default_rng(0)).mode == "RGB"


def tiny(images):
    return np.stack([np.asarray(i.resize((2, 2)), np.float32).ravel() / 255 for i in images])


def test_views_begin_with_the_photo_and_its_mirror_image(folder):
    photos = read_folder(folder)[:3]
    views = compute_views(tiny, photos, 4)
    assert views.shape == (3, 4, 12)
    plain = photos[1].open()
    assert np.allclose(views[1, 0], tiny([plain])[0], atol=1e-3)
    mirror = plain.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert np.allclose(views[1, 1], tiny([mirror])[0], atol=1e-3)
    assert not np.allclose(views[1, 2], views[1, 3], atol=1e-3)


def test_a_view_does_not_depend_on_what_else_is_computed(folder):
    photos = read_folder(folder)
    assert np.array_equal(
        compute_views(tiny, photos, 3)[4:6], compute_views(tiny, photos[4:6], 5)[:, :3]
    )


def test_views_are_computed_once(folder, tmp_path):
    photos = read_folder(folder)
    first = cached_views(tmp_path / "cache", "tiny@1", tiny, photos, 2)

    def never(images):
        raise AssertionError("computed again")

    again = cached_views(tmp_path / "cache", "tiny@1", never, photos, 2)
    assert np.array_equal(first, again)
    with pytest.raises(AssertionError, match="computed again"):
        cached_views(tmp_path / "cache", "tiny@1", never, photos[::-1], 2)
    with pytest.raises(AssertionError, match="computed again"):
        cached_views(tmp_path / "cache", "tiny@2", never, photos, 2)


def test_a_split_may_be_written_in_large_letters(folder, tmp_path):
    rows = "hat/0.png,cap,p1,Train\nshoe/1.png,boot,p2, TEST \nshoe/2.png,boot,p3,Validation\n"
    (folder / "photos.csv").write_text(f"path,label,product,split\n{rows}")
    assert [photo.split for photo in read_folder(folder)] == ["train", "test", "validation"]
    save(tmp_path / "large" / "Test" / "hat" / "0.png")
    assert [photo.split for photo in read_folder(tmp_path / "large")] == ["test"]


LISTS = {
    "another split": (b"path,label,product,split\nhat/0.png,a,p,dev\n", "the split 'dev'"),
    "no product": (b"path,label\nhat/0.png,a\n", "no columns product"),
    "too short a line": (b"path,label,product\nhat/0.png\n", "line 2 has too few values"),
    "Latin-1": (b"path,label,product\nhat/0.png,m\xfctze,p\n", "not in UTF-8"),
    "an endless value": (b"path,label,product\n" + b"x" * 200_000, "cannot be read"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_none_is_said(folder, name):
    content, told = LISTS[name]
    (folder / "photos.csv").write_bytes(content)
    with pytest.raises(photo_sets.PhotosError, match=told):
        read_folder(folder)


def test_a_byte_order_mark_is_passed_over(folder):
    (folder / "photos.csv").write_text("\ufeffpath,label,product\nhat/0.png,cap,p\n", "utf-8")
    assert [photo.label for photo in read_folder(folder)] == ["cap"]


def test_a_folder_with_a_photos_name_is_no_photo(folder):
    (folder / "hat" / "album.jpg").mkdir()
    assert len(read_folder(folder)) == 12


def test_two_runs_may_compute_the_same_views(folder, tmp_path, monkeypatch):
    photos, save_array, pid = read_folder(folder)[:2], np.save, os.getpid()

    def overtaken(path, array):
        save_array(path, array)
        monkeypatch.setattr(np, "save", save_array)
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        cached_views(tmp_path / "cache", "tiny@1", tiny, photos, 1)

    monkeypatch.setattr(np, "save", overtaken)
    views = cached_views(tmp_path / "cache", "tiny@1", tiny, photos, 1)
    assert views.shape == (2, 1, 12)
    assert len(list((tmp_path / "cache").iterdir())) == 1
