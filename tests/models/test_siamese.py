import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.calibration import Isotonic, expected_calibration_error
from models.encoder import Encoder, unit_rows
from models.index import ExactIndex
from models.retrieval import retrieval
from models.siamese import SiameseEncoder, SiameseHead, near_duplicates, unite
from tests.models.feature_sets import feature_set

torch = pytest.importorskip("torch")

from models import siamese_training  # noqa: E402
from models.siamese_training import LOSSES, SiameseSettings, train_siamese  # noqa: E402
from models.training import Schedule  # noqa: E402

SCHEDULE = Schedule(epochs=4, learning_rate=0.02, patience=9)


@pytest.fixture(scope="module", params=LOSSES)
def trained(request):
    train, labels = feature_set(30, 8)
    other, other_labels = feature_set(40, 8, seed=1, first=100)
    settings = SiameseSettings(loss=request.param, dim=8, products=10, views=4, dropout=0.0)
    return train_siamese(train, labels, other[:, 0], other_labels, settings, SCHEDULE)


def test_finds_products_it_has_never_seen(trained):
    head, history = trained
    features, labels = feature_set(15, 8, seed=2, first=200)
    frozen = retrieval(unit_rows(features[:, 0]), labels).mean_average_precision
    learned = retrieval(head.embed(features[:, 0]), labels).mean_average_precision
    assert learned > 1.2 * frozen
    assert len(history.loss) == 4


def test_pair_probability_is_calibrated_on_other_products(trained):
    head, _ = trained
    features, labels = feature_set(40, 8, seed=2, first=200)
    rows = head.embed(features[:, 0])
    one, other = np.triu_indices(len(rows), 1)
    same = labels[one] == labels[other]
    keep = same | (np.random.default_rng(0).random(len(same)) < same.sum() / (~same).sum())
    chances = head.same_product((rows[one] * rows[other]).sum(axis=1))
    assert expected_calibration_error(chances[keep], same[keep]) < 0.1
    assert chances[same].mean() > chances[~same].mean() + 0.2


def test_is_restored_from_its_arrays(trained):
    head, _ = trained
    again = SiameseHead.from_arrays(head.arrays())
    features, _ = feature_set(3, 3)
    assert np.array_equal(head.embed(features[:, 0]), again.embed(features[:, 0]))
    assert np.array_equal(head.same_product([0.1, 0.9]), again.same_product([0.1, 0.9]))
    assert head.embed(np.empty((0, 24), np.float32)).shape == (0, 8)


def test_equal_seeds_give_equal_heads():
    train, labels = feature_set(10, 6)
    settings = SiameseSettings(dim=4, products=5, views=2)
    schedule = Schedule(epochs=2, learning_rate=0.02)
    one, two = (
        train_siamese(train, labels, train[:, 0], labels, settings, schedule)[0] for _ in range(2)
    )
    assert np.array_equal(one.projection, two.projection)


def test_losses_are_zero_or_small_for_the_perfect_and_large_for_the_wrong():
    labels = torch.tensor([0, 0, 1, 1])
    right = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    wrong = right[[0, 2, 1, 3]]
    losses = [
        lambda e: siamese_training.contrastive(e, labels, 1.1),
        lambda e: siamese_training.triplet(e, labels, 0.2),
        lambda e: siamese_training.in_batch(e, labels, 0.1),
    ]
    for loss in losses:
        assert float(loss(right)) == pytest.approx(0, abs=1e-4)
        assert float(loss(wrong)) > 0.5


def test_the_losses_have_gradients_at_equal_embeddings():
    rows = torch.ones(4, 3, requires_grad=True)
    unit = torch.nn.functional.normalize(rows, dim=1)
    labels = torch.tensor([0, 0, 1, 1])
    for loss, value in ((siamese_training.contrastive, 1.0), (siamese_training.triplet, 0.2)):
        rows.grad = None
        loss(unit, labels, value).backward(retain_graph=True)
        assert torch.isfinite(rows.grad).all()


class Colour(Encoder):
    name, version, dim = "colour", "1", 3

    def features(self, images):
        return np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])


def test_is_an_encoder_on_its_trunk():
    curve = Isotonic(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    head = SiameseHead(np.zeros(3, np.float32), np.eye(3, 2, dtype=np.float32), curve)
    encoder = SiameseEncoder("siamese", "v1", Colour(), head)
    assert (encoder.id, encoder.dim) == ("siamese@v1", 2)
    vectors = encoder.encode([Image.new("RGB", (9, 9), (0, 40, 30))])
    assert np.allclose(vectors, [[0, 1]])


def test_near_duplicates_are_grouped():
    curve = Isotonic(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    head = SiameseHead(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), curve)
    index = ExactIndex(2)
    radians = np.radians([0, 90, 5, 10, 95, 180])
    index.put([3, 4, 5, 6, 7, 8], np.stack([np.cos(radians), np.sin(radians)], axis=1))
    groups = near_duplicates(index, head, threshold=0.99)
    assert groups == {3: 3, 5: 3, 6: 3, 4: 4, 7: 4, 8: 8}


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=25))
def test_union_is_reachability(pairs):
    groups = unite(range(16), pairs)
    reach = np.eye(16, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for _ in range(4):
        reach = reach @ reach
    assert [groups[n] for n in range(16)] == [int(np.flatnonzero(row)[0]) for row in reach]
