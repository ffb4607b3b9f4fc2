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
from models.bundle import BundleError
from models.image import BadImage
from models.photos import Photo, read_folder

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from models import classifier_training
from recsys.mapping_training import MappingJob, ProductVectors, read_file, train_mapping
from recsys.settings import Settings
from recsys.training import train_alexnet, train_classifier, train_siamese
from recsys.training_data import Job, TrainingError, read_parts
from recsys.training_report import share
from recsys.worker import image_reader

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


class CutError(Exception):
    """A run is interrupted."""


def cut(what, done, _total):
    if what.startswith("loss") and done == 2:
        raise CutError


def test_an_interrupted_run_is_no_beginning_for_one_of_another_split(job):
    splits = ("train", "train", "train", "validation", "test")

    def photos(shift):
        ordered = sorted(job.photos, key=lambda photo: photo.path.stem)
        return [
            replace(photo, split=splits[(place + shift) % 5]) for place, photo in enumerate(ordered)
        ]

    with pytest.raises(CutError):
        train_classifier(replace(job, photos=photos(0), watch=cut), "linear")
    other = train_classifier(replace(job, photos=photos(1)), "linear")
    assert told(other)["history"]["resumed"] == 0
    with pytest.raises(CutError):
        train_classifier(replace(job, photos=photos(0), watch=cut), "linear")
    same = train_classifier(replace(job, photos=photos(0)), "linear")
    assert told(same)["history"]["resumed"] == 1


@pytest.fixture
def on_siamese(job):
    """A job whose encoder is a Siamese head, as where one serves."""
    train_siamese(replace(job, name="looks"))
    return replace(job, encoder="looks")


def test_a_classifier_is_trained_on_what_it_is_served(on_siamese):
    written = train_classifier(on_siamese, "linear")
    assert (written.about.trunk, written.about.trunk_id) == (
        "colour-histogram", "colour-histogram@1",
    )  # fmt: skip
    given = Settings(
        data_dir=str(on_siamese.bundles.parent),
        images={
            "encoder": "looks",
            "encoder_id": f"looks@{bundle.current_version(on_siamese.bundles, 'looks')}",
            "classifier": "photos",
        },
    )
    reader = image_reader(given)
    [found] = reader.read([((SAMPLE / "uploads" / "hat-01.jpg").read_bytes(), None)])
    assert found.classes


def test_a_siamese_head_is_trained_anew_on_its_trunk(on_siamese):
    written = train_siamese(replace(on_siamese, name="looks", seed=1))
    assert written.about.trunk == "colour-histogram"
    again = trained.load_encoder("looks", on_siamese.cache, on_siamese.bundles)
    assert again.id == f"looks@{written.version}"


def test_a_run_on_another_version_of_the_trunk_begins_anew(on_siamese):
    train_alexnet(replace(on_siamese, name="net", epochs=1), width=8)
    job = replace(on_siamese, encoder="net")
    with pytest.raises(CutError):
        train_classifier(replace(job, watch=cut), "linear")
    train_alexnet(replace(on_siamese, name="net", epochs=1, seed=1), width=8)
    assert told(train_classifier(job, "linear"))["history"]["resumed"] == 0


def test_a_bundle_may_not_take_its_trunks_name(job):
    with pytest.raises(TrainingError, match="colour-histogram is the trunk"):
        train_siamese(replace(job, name="colour-histogram"))
    assert not job.bundles.exists()


@pytest.mark.parametrize("name", ["a/b", "../evil", ""])
def test_a_name_that_is_none_is_said_before_the_training(job, name, tmp_path):
    with pytest.raises(BundleError, match="no name of a bundle"):
        replace(job, name=name)
    vectors = ProductVectors(np.ones((20, 2)), np.ones((20, 2)))
    with pytest.raises(BundleError, match="no name of a bundle"):
        MappingJob(vectors, name, tmp_path, "e@1")


def test_the_kernel_machine_is_left_out_where_it_takes_too_much(job, monkeypatch):
    monkeypatch.setattr(classifier_training, "SVM_ROWS_MAX", 20)
    said = []
    written = train_classifier(replace(job, say=said.append))
    assert set(told(written)["validation of each head"]) == {"linear", "hidden"}
    [sentence] = said
    assert sentence.startswith("svm takes at most 10 photos")
    with pytest.raises(TrainingError, match="svm takes at most 10 photos"):
        train_classifier(job, "svm")


def test_products_photographed_once_are_learned_from_alone(job):
    photos = [
        replace(photo, product=f"p{n // 2}" if n < 16 else f"once {n}")
        for n, photo in enumerate(job.photos)
    ]
    parts = read_parts(replace(job, photos=photos, label_is_product=True))
    assert [len(group) for group in parts.photos.values()] == [8 + 38, 4, 4]
    train_siamese(replace(job, photos=photos, label_is_product=True))
    few = [replace(photo, product=f"p{max(n - 2, n // 2)}") for n, photo in enumerate(photos[:9])]
    with pytest.raises(TrainingError, match=r"4 products .*, there are 2"):
        read_parts(replace(job, photos=few, label_is_product=True))


def test_parts_in_which_nothing_is_alike_are_said(job):
    split = {f"{label}-{n:02d}": part for label in LABELS for n, part in ((1, "test"), (2, "test"))}
    split |= {f"{label}-03": "validation" for label in LABELS}
    photos = [replace(p, split=split.get(p.path.stem, "train")) for p in job.photos]
    with pytest.raises(TrainingError, match="part validation need two labels, and two photos"):
        train_siamese(replace(job, photos=photos))


def test_alexnet_is_measured_without_two_photos_that_are_alike(job):
    split = {f"{label}-01": "test" for label in LABELS}
    split |= {f"{label}-02": "validation" for label in LABELS}
    photos = [replace(p, split=split.get(p.path.stem, "train")) for p in job.photos]
    written = train_alexnet(replace(job, photos=photos, epochs=1), width=8)
    assert "retrieval" not in written.about.metrics


def vectors(**changed):
    generator = np.random.default_rng(0)
    images, factors = generator.normal(size=(20, 5)), generator.normal(size=(20, 2))
    return ProductVectors(**({"images": images, "factors": factors} | changed))


NAN = np.where(np.arange(20)[:, None] == 7, np.nan, np.ones((20, 5)))
USELESS = {
    "a row that is not finite": (vectors(images=NAN), "not finite in row 7"),
    "equal factors": (vectors(factors=np.ones((20, 2))), "the same of all products"),
    "no weight": (vectors(weights=np.zeros(20)), "`weights` are 0"),
    "weights below 0": (vectors(weights=np.r_[-1, np.ones(19)]), "below 0"),
    "weights in two columns": (vectors(weights=np.ones((20, 2))), "one number"),
    "texts": (vectors(factors=np.full((20, 2), "a")), "hold no numbers"),
    "no columns": (vectors(images=np.ones((20, 0))), "hold no numbers"),
}


@pytest.mark.parametrize("name", USELESS)
def test_vectors_that_tell_nothing_are_said(name, tmp_path):
    found, sentence = USELESS[name]
    with pytest.raises(TrainingError, match=sentence):
        train_mapping(MappingJob(found, "map", tmp_path, "e@1"))


def test_a_damaged_file_of_vectors_is_said(tmp_path):
    file = tmp_path / "products.npz"
    np.savez_compressed(file, images=np.zeros((20, 500)), factors=np.ones((20, 2)))
    whole = file.read_bytes()
    for damaged in (whole[:100], whole[:60] + bytes(20) + whole[80:], b"", b"PK\x03\x04"):
        file.write_bytes(damaged)
        with pytest.raises(TrainingError, match="no arrays"):
            read_file(file)
    with file.open("wb") as plain:
        np.save(plain, np.ones(3))
    with pytest.raises(TrainingError, match="no arrays"):
        read_file(file)
