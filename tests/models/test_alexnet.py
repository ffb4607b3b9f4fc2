import numpy as np
import pytest

from models.onnx_encoder import OnnxEncoder
from tests.models.test_encoder import scene

torch = pytest.importorskip("torch")

from models.alexnet import SIDE_PX, AlexNet, AlexNetSettings, shaken, train_alexnet  # noqa: E402
from models.training import Schedule  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AlexNet(classes=10, width=64).eval()


def test_has_the_published_shape():
    network = AlexNet(classes=1000)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 60_965_224  # "60 million parameters"
    assert network.fc6.in_features == 256 * 6 * 6


def test_its_graph_equals_the_network(network):
    encoder = OnnxEncoder("alexnet", "1", network.graph(), SIDE_PX)
    images = [scene(0), scene(1)]
    pixels = torch.tensor(encoder.pixels(images))
    with torch.no_grad():
        expected = network.global_features(pixels).numpy()
        maps = network.local_features(pixels).numpy()
    assert expected.std() > 0.01
    assert np.allclose(encoder.features(images), expected, atol=5e-4)
    assert encoder.dim == 64
    local = encoder.local_features(images, grid=6)
    assert local.shape == (2, 36, 256)
    cell = maps[1, :, 0, 5] / np.linalg.norm(maps[1, :, 0, 5])
    assert np.allclose(local[1, 5], cell, atol=5e-4)


def test_learns_two_colours():
    generator = np.random.default_rng(0)
    labels = np.arange(16) % 2
    pixels = generator.integers(0, 60, (16, 240, 240, 3), dtype=np.uint8)
    pixels[labels == 1, :, :, 0] += 150
    settings = AlexNetSettings(width=16, batch=8, dropout=0.0)
    schedule = Schedule(epochs=3, learning_rate=1e-3)
    network, history = train_alexnet(
        pixels, labels, pixels, labels, ("blue", "red"), settings, schedule
    )
    assert history.loss[-1] < history.loss[0]
    assert history.best_score > 0.9
    assert not network.training


def test_shaking_is_decided_by_its_generator():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 240, 240, 3), dtype=np.uint8)
    one, same, other = (shaken(pixels, np.random.default_rng(n)) for n in (1, 1, 2))
    assert one.shape == (3, SIDE_PX, SIDE_PX, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 255
