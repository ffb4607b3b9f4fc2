"""From a folder of photos to a bundle, on the clothing thumbnails that ship with the project."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recsys
from models import bundle, trained
from models.image import BadImage
from models.photos import Photo, read_folder

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from recsys.mapping_training import MappingJob, ProductVectors, read_file, train_mapping
from recsys.training import train_alexnet, train_classifier, train_siamese
from recsys.training_data import Job, TrainingError, read_parts
from recsys.training_report import share

SAMPLE = Path(recsys.__file__).parent / "sample" / "clothing"
LABELS = ("hat", "pants", "shoes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three categories of 18 photos each."""
    place = tmp_path_factory.mktemp("photos")
    for label in LABELS:
        (place / label).mkdir()
        for n in range(1, 19):
            shutil.copy(SAMPLE / "catalogue" / f"{label}-{n:02d}.jpg", place / label)
    return place


@pytest.fixture
def job(folder, tmp_path):
    """Colours as the trunk: it is quick, and everything else is as with a network."""
    return Job(
        read_folder(folder), "photos",
        tmp_path / "bundles", tmp_path / "encoders", tmp_path / "training",
        encoder="colour-histogram", views=2, epochs=3, licence="CC0-1.0", origin="the sample",
    )  # fmt: skip


def told(written):
    return json.loads((written.folder / "training.json").read_text())


@pytest.mark.parametrize("kind", ["linear", "hidden", "svm"])
def test_a_classifier_comes_out_as_a_bundle(job, kind):
    written = train_classifier(job, kind)
    assert written.about.kind == "classifier"
    assert written.about.trunk_id == "colour-histogram@1"
    assert written.about.data["licence"] == "CC0-1.0"
    assert sum(written.about.data["photos"].values()) == 54
    assert told(written)["version"] == written.version
    if kind != "svm":
        assert len(told(written)["history"]["loss"]) == 3
        with Image.open(written.folder / "curve.png") as curve:
            assert curve.size == (700, 400)
    found = trained.load_classifier("photos", job.bundles, "colour-histogram@1")
    assert tuple(found.classes) == LABELS
    assert not job.checkpoints.exists()


def test_the_best_head_in_validation_is_kept(job):
    kept = train_classifier(replace(job, name="best"))
    found = told(kept)["validation of each head"]
    assert set(found) == {"linear", "hidden", "svm"}
    assert kept.about.metrics["validation"]["accuracy"] == max(found.values())
    alone = train_classifier(replace(job, name="alone"), kept.about.settings["head"])
    for name, value in kept.arrays().items():
        assert np.array_equal(value, alone.arrays()[name])


def test_equal_seeds_give_the_same_weights(job):
    one, two = (train_classifier(replace(job, name=name), "linear") for name in ("one", "two"))
    for name, value in one.arrays().items():
        assert np.array_equal(value, two.arrays()[name])
    other = train_classifier(replace(job, name="three", seed=1), "linear")
    assert not np.array_equal(other.arrays()["layer0.weight"], one.arrays()["layer0.weight"])


def test_an_interrupted_run_goes_on_to_the_same_weights(job):
    whole = train_classifier(replace(job, name="whole"), "linear")

    def interrupt(what, done, _total):
        if what.startswith("loss") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(replace(job, name="cut", watch=interrupt), "linear")
    assert len(list((job.work / "checkpoints" / "cut").iterdir())) == 1
    resumed = train_classifier(replace(job, name="cut"), "linear")
    for name, value in whole.arrays().items():
        assert np.array_equal(value, resumed.arrays()[name])


def test_an_interrupted_run_is_no_beginning_for_one_of_other_settings(job):
    def interrupt(what, _done, _total):
        if what.startswith("loss"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(replace(job, watch=interrupt), "linear")
    other = train_classifier(replace(job, seed=1), "linear")
    plain = train_classifier(replace(job, name="plain", seed=1), "linear")
    assert np.array_equal(other.arrays()["layer0.weight"], plain.arrays()["layer0.weight"])
    assert len(told(other)["history"]["loss"]) == 3


def test_a_siamese_bundle_is_an_encoder(job):
    written = train_siamese(job, "in-batch")
    assert set(written.about.metrics) >= {"frozen", "test"}
    encoder = trained.load_encoder("photos", job.cache, job.bundles)
    image = Image.open(SAMPLE / "uploads" / "hat-01.jpg")
    vectors, below = encoder.encode_both([image])
    assert vectors.shape[1] == encoder.dim
    assert below.shape == (1, 192)
    with pytest.raises(TrainingError, match="no loss 'other'"):
        train_siamese(job, "other")


def test_labels_that_are_products_are_kept_apart_whole(folder, job, tmp_path):
    many = tmp_path / "many"
    for n, path in enumerate(sorted(folder.rglob("*.jpg"))):
        place = many / ("train" if n % 2 else "test") / f"product {n // 3}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    parts = read_parts(replace(job, photos=read_folder(many, True), label_is_product=True))
    products = [{photo.product for photo in group} for group in parts.photos.values()]
    assert [len(group) for group in products] == [12, 2, 4]
    assert len(set.union(*products)) == 18


def test_alexnet_comes_out_as_an_encoder(job):
    written = train_alexnet(replace(job, epochs=1), width=32)
    assert written.about.kind == "alexnet"
    encoder = trained.load_encoder("photos", job.cache, job.bundles)
    assert encoder.dim == 32
    assert encoder.id == f"photos@{written.version}"


def test_too_few_photos_are_said(job, tmp_path):
    one = tmp_path / "one" / "hat"
    one.mkdir(parents=True)
    shutil.copy(SAMPLE / "catalogue" / "hat-01.jpg", one)
    with pytest.raises(TrainingError, match="too little"):
        read_parts(replace(job, photos=read_folder(one.parent)))


def test_products_with_one_photo_each_are_no_labels(job):
    with pytest.raises(TrainingError, match="each product has one photo"):
        read_parts(replace(job, label_is_product=True))


def test_photos_without_a_file_are_as_good(job):
    held = [replace(photo, data=photo.read()) for photo in job.photos]
    held = [replace(photo, path=Path(photo.path.name)) for photo in held]
    one, other = (
        train_classifier(job, "linear"),
        train_classifier(replace(job, name="held", photos=held), "linear"),
    )
    for name, value in one.arrays().items():
        assert np.array_equal(value, other.arrays()[name])
    assert one.about.data["digest"] == other.about.data["digest"]


def test_a_photo_that_is_none_is_named(job, tmp_path):
    bad = Photo(tmp_path / "bad.jpg", "hat", "bad", data=b"no picture")
    with pytest.raises(BadImage, match=r"bad\.jpg: neither"):
        train_classifier(replace(job, photos=[*job.photos, bad]), "linear")


def test_a_mapping_comes_from_vectors(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(80, 10)).astype(np.float32)
    factors = images @ generator.normal(size=(10, 3)).astype(np.float32)
    file = tmp_path / "products.npz"
    np.savez(file, images=images, factors=factors)
    job = MappingJob(read_file(file), "map", tmp_path / "bundles", "e@1")
    written = train_mapping(job)
    assert written.about.metrics["explained"] > 0.95
    mapping = trained.load_mapping("map", tmp_path / "bundles", "e@1")
    assert np.allclose(mapping(images), factors, atol=0.5)
    assert bundle.read(tmp_path / "bundles", "map").about.data["products"] == 80
    np.savez(file, images=images, factors=factors[:5])
    with pytest.raises(TrainingError, match="a row for each"):
        train_mapping(replace(job, vectors=read_file(file)))
    with pytest.raises(TrainingError, match="10 products"):
        train_mapping(replace(job, vectors=ProductVectors(images[:9], factors[:9])))
    file.write_text("nothing")
    with pytest.raises(TrainingError, match="no arrays"):
        read_file(file)


def test_intervals_by_wilson():
    assert share(0, 10)["low"] == 0
    assert share(10, 10)["high"] == 1
    wide, narrow = share(9, 10), share(900, 1000)
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]
