import numpy as np
import onnxruntime
import pytest

from models import efficientnet, onnx_graph
from models.encoder import unit_rows
from models.onnx_encoder import OnnxEncoder
from tests.models.test_encoder import scene

torch = pytest.importorskip("torch")

from models.finetuning import Tail, TuneSettings, tune  # noqa: E402
from models.training import Schedule  # noqa: E402

REPEATS = efficientnet.LITE0.repeats
FIRST = 13


@pytest.fixture(scope="module")
def weights():
    return efficientnet.folded_weights(efficientnet.LITE0)


def maps_of(weights, images, until=FIRST):
    graph = onnx_graph.efficientnet_lite(weights, REPEATS, until)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    pixels = OnnxEncoder("whole", "1", onnx_graph.efficientnet_lite(weights, REPEATS), 224)
    return session.run(["maps"], {"pixels": pixels.pixels(images)})[0]


@pytest.mark.parametrize("until", [2, 11, 15])
def test_beginning_and_end_make_the_whole_network(weights, until):
    images = [scene(0), scene(1)]
    whole = OnnxEncoder("whole", "1", onnx_graph.efficientnet_lite(weights, REPEATS), 224)
    tail = Tail(weights, REPEATS, 3, TuneSettings(first_block=until)).eval()
    with torch.no_grad():
        features = tail.features(torch.tensor(maps_of(weights, images, until))).numpy()
    assert np.allclose(features, whole.features(images), atol=2e-3)


def test_tuning_fits_and_serves(weights):
    """Ellipses of two sizes of pictures: the tuned graph and head answer as in training."""
    images = [scene(n, 200, 150) for n in range(12)] + [scene(n, 60, 220) for n in range(12)]
    labels = np.repeat([0, 1], 12)
    maps = maps_of(weights, images).astype(np.float16)
    settings = TuneSettings(first_block=FIRST, batch=8)
    schedule = Schedule(epochs=4, learning_rate=3e-3)
    tuned, head, history = tune(
        weights, REPEATS, maps[:, None], labels, maps, labels, ("wide", "tall"), settings, schedule
    )
    assert history.loss[-1] < history.loss[0]
    assert np.array_equal(tuned["_conv_stem.weight"], weights["_conv_stem.weight"])
    assert not np.array_equal(tuned["_conv_head.weight"], weights["_conv_head.weight"])
    encoder = OnnxEncoder("tuned", "1", onnx_graph.efficientnet_lite(tuned, REPEATS), 224)
    answers = head.probabilities(unit_rows(encoder.features(images)))
    assert (answers.argmax(axis=1) == labels).mean() > 0.95
