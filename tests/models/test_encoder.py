"""The contract of every encoder, and what is particular to each."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models import bundle, efficientnet, onnx_graph, trained
from models import encoder as encoders
from models.bundle import About
from models.calibration import Isotonic
from models.efficientnet import cached
from models.encoder import Encoder, unit_rows
from models.siamese import SiameseHead
from tests.models.hostile_images import picture


def scene(seed, width=200, height=150):
    """Ellipses of one colour on another: something every encoder can see."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(generator.integers(0, 256, 3).tolist()))
    for _ in range(4):
        left, top = generator.integers(0, (width // 2, height // 2)).tolist()
        box = (left, top, left + width // 2, top + height // 2)
        ImageDraw.Draw(image).ellipse(box, fill=tuple(generator.integers(0, 256, 3).tolist()))
    return image


JOINED = "hog+colour-histogram"


def siamese_bundle(folder):
    head = SiameseHead(
        np.full(192, 0.02, np.float32),
        np.random.default_rng(0).normal(size=(192, 64)).astype(np.float32),
        Isotonic((0.0, 1.0), (0.0, 1.0)),
    )
    about = About("siamese", trunk="colour-histogram", trunk_id="colour-histogram@1")
    bundle.write(folder, "siamese", about, head.arrays())


def alexnet_bundle(folder):
    torch = pytest.importorskip("torch")
    from models.alexnet import AlexNet

    torch.manual_seed(0)
    graph = AlexNet(classes=2, width=64).graph()
    bundle.write(folder, "alexnet", About("alexnet"), {}, {"encoder": graph})


def tuned_bundle(folder):
    weights = efficientnet.folded_weights(efficientnet.LITE0)
    graph = onnx_graph.efficientnet_lite(weights, efficientnet.LITE0.repeats)
    bundle.write(folder, "tuned", About("tuned"), {}, {"encoder": graph})


TRAINED = {"siamese": siamese_bundle, "alexnet": alexnet_bundle, "tuned": tuned_bundle}


@pytest.fixture(scope="module", params=[*sorted(encoders.BUILT_IN), JOINED, *TRAINED])
def encoder(request, cache_folder, tmp_path_factory):
    bundles = tmp_path_factory.mktemp("bundles")
    if request.param in TRAINED:
        TRAINED[request.param](bundles)
    return trained.load_encoder(request.param, cache_folder, bundles)


class TestContract:
    def test_names_itself(self, encoder):
        assert encoder.id == f"{encoder.name}@{encoder.version}"
        assert set(encoder.name.split("+")) <= {*encoders.names(), *TRAINED}

    def test_gives_unit_rows(self, encoder):
        vectors = encoder.encode([scene(n) for n in range(3)])
        assert vectors.shape == (3, encoder.dim)
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_no_pictures_give_no_rows(self, encoder):
        assert encoder.encode([]).shape == (0, encoder.dim)

    def test_is_deterministic(self, encoder):
        images = [scene(0), scene(1)]
        assert np.array_equal(encoder.encode(images), encoder.encode(images))

    def test_a_picture_does_not_depend_on_its_batch(self, encoder):
        images = [scene(n) for n in range(20)]
        alone = np.concatenate([encoder.encode([image]) for image in images])
        assert np.allclose(alone, encoder.encode(images), atol=1e-4)

    def test_a_smaller_copy_is_nearer_than_another_picture(self, encoder):
        first, copy, other = scene(3), scene(3).resize((160, 120)), scene(4)
        a, b, c = encoder.encode([first, copy, other])
        assert a @ b > a @ c
        assert a @ b > 0.8

    @pytest.mark.parametrize("size", [(8, 8), (1, 512), (512, 1), (400, 300)])
    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
    def test_takes_any_size_and_mode(self, encoder, size, mode):
        vectors = encoder.encode([Image.new("RGB", size, "white").convert(mode)])
        assert vectors.shape == (1, encoder.dim)
        assert np.isfinite(vectors).all()
        assert np.isclose(np.linalg.norm(vectors), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_graph_equals_the_torch_network(name, cache_folder):
    torch = pytest.importorskip("torch")
    network_package = pytest.importorskip("efficientnet_lite_pytorch")
    release = {"efficientnet-lite0": efficientnet.LITE0, "efficientnet-lite2": efficientnet.LITE2}
    weights = torch.load(efficientnet.weights_path(release[name]), weights_only=True)
    network = network_package.EfficientNet.from_name(name)
    network.load_state_dict(weights)
    network.eval()
    encoder = encoders.load(name, cache_folder)
    images = [scene(0), picture(300, 100)]
    pixels = torch.tensor(encoder.pixels(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = network.extract_features((pixels.float() - 127) / 128)
    expected = maps.mean(dim=(2, 3)).numpy()
    assert expected.std() > 0.1
    assert np.allclose(encoder.features(images), expected, atol=2e-4)


def test_joined_encoders_weigh_the_same(cache_folder):
    both = encoders.load(JOINED, cache_folder)
    assert both.id == "hog+colour-histogram@1+1"
    hog, colours = (encoders.load(name, cache_folder) for name in JOINED.split("+"))
    images = [scene(n) for n in range(3)]
    [one, other], [a, b], [c, d] = (e.encode(images[:2]) for e in (both, hog, colours))
    assert one @ other == pytest.approx((a @ b + c @ d) / 2, abs=1e-5)
    with pytest.raises(LookupError, match="no encoder 'no such'"):
        encoders.load("hog+no such", cache_folder)


def test_local_features_are_unit_rows_of_a_grid(cache_folder):
    encoder = encoders.load("efficientnet-lite0", cache_folder)
    left, right = scene(1).crop((0, 0, 100, 150)), scene(2).crop((0, 0, 100, 150))
    both = Image.new("RGB", (200, 150))
    both.paste(left, (0, 0))
    both.paste(right, (100, 0))
    local = encoder.local_features([both, left.resize((200, 150))])
    assert local.shape == (2, 4, 1280)
    assert np.allclose(np.linalg.norm(local, axis=2), 1, atol=1e-5)


def test_a_damaged_graph_in_the_cache_is_built_again(tmp_path):
    path = cached(tmp_path / "deep" / "net.onnx", lambda: b"graph")
    assert cached(path, lambda: b"never").read_bytes() == b"graph"
    path.write_bytes(b"gra")
    assert cached(path, lambda: b"graph 2").read_bytes() == b"graph 2"
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.onnx", "net.sha256"]


def test_serving_needs_no_torch(cache_folder):
    """In a fresh process: building and running the encoder imports no torch."""
    code = (
        "import sys; from pathlib import Path; from models import encoder;"
        "from PIL import Image;"
        "encoder.load('efficientnet-lite0', Path(sys.argv[1])).encode([Image.new('RGB', (9, 9))]);"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(cache_folder)], capture_output=True, check=True, text=True
    )
    assert answer.stdout.strip() == "False"


def test_an_encoder_of_another_package_is_found(tmp_path, monkeypatch):
    (tmp_path / "their_encoder.py").write_text(
        "import numpy as np\n"
        "from models.encoder import Encoder\n"
        "class Mean(Encoder):\n"
        "    name, version, dim = 'mean', '3', 3\n"
        "    def features(self, images):\n"
        "        return np.stack([np.asarray(i, np.float32).mean((0, 1)) for i in images])\n"
        "def mean(cache_folder):\n"
        "    return Mean()\n"
    )
    info = tmp_path / "their_encoder-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-encoder\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[recsys.encoders]\nmean = their_encoder:mean\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "mean" in encoders.names()
    found = encoders.load("mean", tmp_path)
    assert found.id == "mean@3"
    assert np.allclose(found.encode([Image.new("RGB", (9, 9), (10, 0, 0))]), [[1, 0, 0]])


def test_an_unknown_encoder_is_named_among_the_known(tmp_path):
    with pytest.raises(LookupError, match="efficientnet-lite0"):
        encoders.load("no such", tmp_path)


def test_zero_and_nan_rows_become_the_first_unit_vector():
    rows = unit_rows([[0, 0], [np.nan, 1], [0, 2]])
    assert rows.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_the_interface_needs_features():
    with pytest.raises(TypeError, match="abstract"):
        Encoder()
