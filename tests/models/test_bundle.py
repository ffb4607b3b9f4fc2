import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models import bundle, trained
from models.bundle import About, BundleError
from models.calibration import Isotonic
from models.classifier import LayeredClassifier
from models.mapping import fit_mapping
from models.siamese import SiameseHead

ABOUT = About("classifier", data={"licence": "CC0", "digest": "12"}, metrics={"accuracy": 0.5})


def arrays(seed=0):
    return {"a": np.random.default_rng(seed).normal(size=(3, 4)), "b": np.arange(3)}


def test_is_read_as_it_was_written(tmp_path):
    written = bundle.write(tmp_path, "cats", ABOUT, arrays(), {"encoder": b"graph"})
    found = bundle.read(tmp_path, "cats")
    assert found == written
    assert found.about == ABOUT
    for name, value in arrays().items():
        assert np.array_equal(found.arrays()[name], value)
    assert found.graph("encoder").read_bytes() == b"graph"
    with pytest.raises(BundleError, match="no graph"):
        found.graph("other")


def test_the_same_content_is_one_version_and_new_content_a_new_one(tmp_path):
    first = bundle.write(tmp_path, "cats", ABOUT, arrays())
    assert bundle.write(tmp_path, "cats", ABOUT, arrays()).version == first.version
    second = bundle.write(tmp_path, "cats", ABOUT, arrays(seed=1))
    assert second.version != first.version
    assert bundle.current_version(tmp_path, "cats") == second.version
    assert bundle.read(tmp_path, "cats", first.version) == first
    bundle.use(tmp_path, "cats", first.version)
    assert bundle.read(tmp_path, "cats").version == first.version
    assert {p.name for p in (tmp_path / "cats").iterdir()} == {
        "current", first.version, second.version,
    }  # fmt: skip


@pytest.mark.parametrize("file", ["weights.safetensors", "encoder.onnx"])
def test_damage_is_found(tmp_path, file):
    found = bundle.write(tmp_path, "cats", ABOUT, arrays(), {"encoder": b"graph"})
    path = found.folder / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="not what was written"):
        bundle.read(tmp_path, "cats")


def test_what_is_no_bundle_is_said(tmp_path):
    with pytest.raises(BundleError, match="no bundle 'cats'"):
        bundle.read(tmp_path, "cats")
    with pytest.raises(BundleError, match="no bundle"):
        bundle.read(tmp_path, "../cats", "1")
    found = bundle.write(tmp_path, "cats", ABOUT, arrays())
    with pytest.raises(BundleError, match="not a siamese"):
        bundle.read(tmp_path, "cats", kind="siamese")
    about = found.folder / "bundle.json"
    facts = json.loads(about.read_text())
    about.write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(BundleError, match="format 99"):
        bundle.read(tmp_path, "cats")
    about.write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.read(tmp_path, "cats")


HEAD = SiameseHead(
    np.zeros(192, np.float32),
    np.random.default_rng(0).normal(size=(192, 8)).astype(np.float32),
    Isotonic(np.array([0.0, 1.0]), np.array([0.1, 0.9])),
)
TRUNK = "colour-histogram@1"


def test_a_siamese_bundle_is_an_encoder_by_name(tmp_path):
    about = About("siamese", trunk="colour-histogram", trunk_id=TRUNK)
    written = bundle.write(tmp_path, "looks", about, HEAD.arrays())
    encoder = trained.load_encoder("looks", tmp_path, tmp_path)
    assert encoder.id == f"looks@{written.version}"
    assert encoder.trunk_id == TRUNK
    image = Image.linear_gradient("L").convert("RGB")
    vectors, below = encoder.encode_both([image])
    assert np.allclose(vectors, encoder.encode([image]), atol=1e-6)
    assert np.allclose(below, encoder.trunk.encode([image]))
    assert (vectors.shape, below.shape) == ((1, 8), (1, 192))


def test_a_trunk_of_another_version_is_refused(tmp_path):
    about = About("siamese", trunk="colour-histogram", trunk_id="colour-histogram@0")
    bundle.write(tmp_path, "looks", about, HEAD.arrays())
    with pytest.raises(BundleError, match="histogram@0, not of colour-histogram@1"):
        trained.load_encoder("looks", tmp_path, tmp_path)


def test_a_classifier_is_loaded_for_its_trunk_alone(tmp_path):
    head = LayeredClassifier(
        ("hat", "shoe"), 2.0, 0.4, 1.0, [np.ones((3, 2), np.float32)], [np.ones(2, np.float32)]
    )
    told = {"classes": ["hat", "shoe"], "temperature": 2.0, "threshold": 0.4}
    bundle.write(tmp_path, "c", About("classifier", "t", "t@1", told), head.arrays())
    found = trained.load_classifier("c", tmp_path, "t@1")
    assert (list(found.classes), found.temperature, found.threshold) == (["hat", "shoe"], 2.0, 0.4)
    with pytest.raises(BundleError, match="not of t@2"):
        trained.load_classifier("c", tmp_path, "t@2")
    with pytest.raises(BundleError, match="no encoder"):
        trained.load_encoder("c", tmp_path, tmp_path)


def classifier(answer):
    bias = np.array([5.0, 0.0] if answer == "hat" else [0.0, 5.0], np.float32)
    return LayeredClassifier(("hat", "shoe"), 1.0, 0.1, 1.0, [np.zeros((3, 2), np.float32)], [bias])


def test_a_watched_classifier_is_swapped_and_a_bad_one_left_alone(tmp_path):
    told = {"classes": ["hat", "shoe"], "temperature": 1.0, "threshold": 0.1}
    about = About("classifier", "t", "t@1", told)
    bundle.write(tmp_path, "c", about, classifier("hat").arrays())
    watched = trained.WatchedClassifier("c", tmp_path, "t@1")
    row = np.ones((1, 3), np.float32)
    assert watched.top(row, 1)[0][0][0] == "hat"
    bundle.write(tmp_path, "c", about, classifier("shoe").arrays())
    assert watched.top(row, 1)[0][0][0] == "shoe"
    bundle.write(tmp_path, "c", About("classifier", "t", "t@2", told), classifier("hat").arrays())
    assert watched.top(row, 1)[0][0][0] == "shoe"
    assert "not of t@1" in watched.problem


def test_a_mapping_is_loaded_for_its_encoder_alone(tmp_path):
    generator = np.random.default_rng(0)
    mapping = fit_mapping(generator.normal(size=(9, 4)), generator.normal(size=(9, 2)))
    bundle.write(tmp_path, "m", About("mapping", "t", "t@1"), mapping.arrays())
    found = trained.load_mapping("m", tmp_path, "t@1")
    assert np.array_equal(found.matrix, mapping.matrix)
    with pytest.raises(BundleError, match="not of t@2"):
        trained.load_mapping("m", tmp_path, "t@2")


def test_built_in_encoders_are_loaded_by_name(tmp_path):
    assert trained.load_encoder("colour-histogram", tmp_path, tmp_path).id == TRUNK
    with pytest.raises(LookupError, match="no encoder"):
        trained.load_encoder("none such", tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["a/b", "../evil", "..", ".", "", "a\0b", "x" * 200])
def test_a_name_that_is_none_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(BundleError, match="no name of a bundle"):
        bundle.write(tmp_path / "bundles", name, ABOUT, arrays())
    assert list(tmp_path.iterdir()) == []


DAMAGES = {
    "weights missing": lambda folder: (folder / "weights.safetensors").unlink(),
    "another kind of JSON": lambda folder: (folder / "bundle.json").write_text("[]"),
    "no files": lambda folder: (folder / "bundle.json").write_text('{"files": 7}'),
    "gone": shutil.rmtree,
    "current is no text": lambda folder: (folder.parent / "current").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_watched_classifier_outlives_a_damaged_version(tmp_path, damage):
    told = {"classes": ["hat", "shoe"], "temperature": 1.0, "threshold": 0.1}
    about = About("classifier", "t", "t@1", told)
    bundle.write(tmp_path, "c", about, classifier("hat").arrays())
    watched = trained.WatchedClassifier("c", tmp_path, "t@1")
    row = np.ones((1, 3), np.float32)
    DAMAGES[damage](bundle.write(tmp_path, "c", about, classifier("shoe").arrays()).folder)
    assert watched.top(row, 1)[0][0][0] == "hat"
    assert watched.problem


def test_a_head_keeps_the_version_of_its_trunk(tmp_path):
    about = About("siamese", trunk="colour-histogram", trunk_id=TRUNK)
    first = bundle.write(tmp_path, "below", about, HEAD.arrays())
    head = replace(HEAD, mean=np.zeros(8, np.float32), projection=np.eye(8, 4, dtype=np.float32))
    on_it = About("siamese", trunk="below", trunk_id=f"below@{first.version}")
    bundle.write(tmp_path, "above", on_it, head.arrays())
    newer = replace(HEAD, projection=HEAD.projection * 2)
    bundle.write(tmp_path, "below", about, newer.arrays())
    assert trained.load_encoder("above", tmp_path, tmp_path).trunk_id == f"below@{first.version}"


def test_a_head_that_names_itself_as_its_trunk_is_refused(tmp_path):
    about = About("siamese", trunk="looks", trunk_id="looks@0")
    bundle.write(tmp_path, "looks", about, HEAD.arrays())
    with pytest.raises(BundleError, match="is its own trunk"):
        trained.load_encoder("looks", tmp_path, tmp_path)


def test_a_bundle_can_be_joined_and_a_head_stand_on_both(tmp_path):
    about = About("siamese", trunk="colour-histogram", trunk_id=TRUNK)
    written = bundle.write(tmp_path, "looks", about, HEAD.arrays())
    joined = trained.load_encoder("looks+colour-histogram", tmp_path, tmp_path)
    assert joined.id == f"looks+colour-histogram@{written.version}+1"
    head = replace(HEAD, mean=np.zeros(200, np.float32), projection=np.eye(200, 4, dtype="f4"))
    bundle.write(tmp_path, "both", About("siamese", joined.name, joined.id), head.arrays())
    bundle.write(tmp_path, "looks", about, replace(HEAD, projection=HEAD.projection * 2).arrays())
    assert trained.load_encoder("both", tmp_path, tmp_path).trunk_id == joined.id
