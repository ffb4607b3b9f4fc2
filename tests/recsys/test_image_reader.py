from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

import recsys
from models import bundle
from models import encoder as encoders
from models.bundle import About
from models.calibration import Isotonic
from models.classifier import LayeredClassifier
from models.image import BadImage, ImageLimits
from models.siamese import SiameseEncoder, SiameseHead
from models.trained import WatchedClassifier
from recsys.image_reader import ImageReader
from tests.models.hostile_images import hostile

UPLOADS = Path(recsys.__file__).parent / "sample" / "clothing" / "uploads"


@pytest.fixture
def colours(tmp_path):
    return encoders.load("colour-histogram", tmp_path)


def files(count):
    return [(path.read_bytes(), "image/jpeg") for path in sorted(UPLOADS.iterdir())[:count]]


def test_reads_in_order_and_batches_change_nothing(colours):
    whole = ImageReader(colours, batch_size=16).read(files(7))
    parts = ImageReader(colours, batch_size=2).read(files(7))
    assert len(whole) == 7
    for one, other in zip(whole, parts, strict=True):
        assert np.allclose(one.vector, other.vector)
        assert one.classes == []
    assert ImageReader(colours).read([]) == []


def test_hostile_images_spoil_no_other(colours):
    bad = [(data, kind) for data, kind, _ in hostile().values()]
    good = files(len(bad))
    mixed = [each for pair in zip(bad, good, strict=False) for each in pair]
    found = ImageReader(colours, batch_size=5).read(mixed)
    alone = ImageReader(colours).read(good)
    assert all(isinstance(each, BadImage) for each in found[::2])
    reasons = [reason for _, _, reason in hostile().values()]
    assert [each.reason for each in found[::2]] == reasons[: len(found[::2])]
    for one, other in zip(found[1::2], alone, strict=False):
        assert np.allclose(one.vector, other.vector)


def test_limits_hold(colours):
    [found] = ImageReader(colours, limits=ImageLimits(pixels_max=100)).read(files(1))
    assert found.reason == "pixels"


def test_the_classifier_reads_the_trunk_below_the_head(colours):
    generator = np.random.default_rng(0)
    curve = Isotonic(np.array([0.0, 1.0]), np.array([0.1, 0.9]))
    projection = generator.normal(size=(192, 8)).astype(np.float32)
    siamese = SiameseEncoder("s", "1", colours, SiameseHead(np.zeros(192, "f4"), projection, curve))
    weights = generator.normal(size=(192, 3)).astype(np.float32)
    classifier = LayeredClassifier(("a", "b", "c"), 1.0, 0.0, 1.0, [weights], [np.zeros(3, "f4")])
    [found] = ImageReader(siamese, classifier).read(files(1))
    [below] = ImageReader(colours, classifier).read(files(1))
    assert found.vector.shape == (8,)
    assert found.classes == below.classes
    assert len(found.classes) == 3
    assert sum(each.probability for each in found.classes) == pytest.approx(1, abs=1e-3)


def test_a_version_that_is_refused_is_told_once(colours, tmp_path):
    head = LayeredClassifier(("a", "b"), 1.0, 0.0, 1.0, [np.eye(192, 2, dtype="f4")], [np.zeros(2)])
    told = {"classes": ["a", "b"], "temperature": 1.0, "threshold": 0.0}
    about = About("classifier", "colour-histogram", colours.id, told)
    bundle.write(tmp_path, "c", about, head.arrays())
    reader = ImageReader(colours, WatchedClassifier("c", tmp_path, colours.id))
    assert reader.refused == ""
    other = bundle.write(tmp_path, "c", replace(about, trunk_id="t@2"), head.arrays())
    with capture_logs() as logs:
        for _ in range(3):
            assert reader.read(files(1))[0].classes
        bundle.write(tmp_path, "c", replace(about, trunk_id="t@3"), head.arrays())
        reader.read(files(1))
    assert "t@3" in reader.refused
    assert [each["event"] for each in logs] == ["classifier.refused"] * 2
    assert logs[0]["version"] == other.version
    assert "not of colour-histogram@1" in logs[0]["error"]
