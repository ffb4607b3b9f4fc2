import numpy as np
import pytest

from models.classifier import UNKNOWN, LayeredClassifier, from_arrays
from models.encoder import unit_rows
from tests.models.feature_sets import feature_set

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from models.calibration import expected_calibration_error
from models.classifier_training import HeadSettings, train_head, train_svm
from models.training import Schedule

CLASSES = ("hat", "shirt", "shoe", "skirt", "sock", "tie")
NOISE = 0.35


@pytest.fixture(scope="module", params=["linear", "hidden", "svm"])
def classifier(request):
    train, labels = feature_set(6, 40, noise=NOISE)
    held_out, held_labels = feature_set(6, 20, noise=NOISE, seed=1)
    validation = held_out[:, 0].astype(np.float32)
    if request.param == "svm":
        return train_svm(train, labels, validation, held_labels, CLASSES, (1.0, 10.0), (1.0,))
    settings = HeadSettings(hidden=16 if request.param == "hidden" else 0, batch=32)
    schedule = Schedule(epochs=8, learning_rate=0.01)
    return train_head(train, labels, validation, held_labels, CLASSES, settings, schedule)[0]


@pytest.fixture
def test_set():
    features, labels = feature_set(6, 50, noise=NOISE, seed=2)
    return features[:, 0].astype(np.float32), labels


def test_is_right_and_calibrated(classifier, test_set):
    vectors, labels = test_set
    chances = classifier.probabilities(vectors)
    right = chances.argmax(axis=1) == labels
    assert right.mean() > 0.85
    assert np.allclose(chances.sum(axis=1), 1)
    assert expected_calibration_error(chances.max(axis=1), right) < 0.12


def test_gives_the_top_categories(classifier, test_set):
    vectors, labels = test_set
    answers = classifier.top(vectors, k=2)
    assert len(answers) == len(vectors)
    known = [
        (answer, label) for answer, label in zip(answers, labels, strict=True) if len(answer) == 2
    ]
    assert len(known) > 0.8 * len(vectors)
    for (first, second), _ in known:
        assert first[1] >= second[1]
    assert np.mean([answer[0][0] == CLASSES[label] for answer, label in known]) > 0.85
    assert classifier.top(vectors[:0]) == []


def test_what_is_between_all_classes_is_unknown(classifier, test_set):
    vectors, _ = test_set
    between = unit_rows(vectors.mean(axis=0, keepdims=True))
    unsure = from_arrays(classifier.arrays(), CLASSES, classifier.temperature, 0.9999)
    [[(category, probability)]] = unsure.top(between)
    assert category == UNKNOWN
    assert 0 < probability < 1


def test_is_restored_from_its_arrays(classifier, test_set):
    again = from_arrays(classifier.arrays(), CLASSES, classifier.temperature, classifier.threshold)
    assert type(again) is type(classifier)
    assert np.allclose(
        again.probabilities(test_set[0]), classifier.probabilities(test_set[0]), atol=5e-3
    )


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="no weights"):
        from_arrays({"mean": np.ones(3)}, CLASSES, 1.0, 0.0)


def test_layers_by_hand():
    weights = [np.array([[1.0, -1.0], [0, 0]], np.float32), np.eye(2, dtype=np.float32)]
    biases = [np.zeros(2, np.float32), np.array([0, 0.5], np.float32)]
    classifier = LayeredClassifier(("a", "b"), 1.0, 0.0, 1.0, weights, biases)
    rows = np.array([[1, 0], [-1, 0]], np.float32)
    assert classifier.scores(rows).tolist() == [[1, 0.5], [0, 1.5]]
