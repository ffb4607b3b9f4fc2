"""Encoders, classifiers and mappings by name: built in, by entry point, or out of a bundle."""

from pathlib import Path

from models import bundle, classifier, encoder
from models.bundle import Bundle, BundleError
from models.classifier import Classifier
from models.encoder import Encoder
from models.joined import JoinedEncoder
from models.mapping import ImageMapping
from models.siamese import SiameseEncoder, SiameseHead
from models.unit_rows import Vectors

SIDES_PX = {"alexnet": 227, "tuned": 224}


def load_encoder(
    name: str, cache_folder: Path, bundles: Path, version: str | None = None
) -> Encoder:
    """The encoder of that name; a bundle of that name comes before a built-in one.

    A bundle can be a Siamese head (on its trunk), AlexNet, or a fine-tuned network; names with `+`
    between are joined. `version` is a bundle's, and without it the current one. Raises
    `LookupError` for an unknown name and `BundleError` for a bundle that is no encoder, or whose
    trunk has another version than the one it was trained on.
    """
    if bundle.current_version(bundles, name) is None:
        if "+" not in name or name in encoder.names():
            return encoder.load(name, cache_folder)
        parts = name.split("+")
        versions = (version or "").split("+")
        wanted = versions if len(versions) == len(parts) else [None] * len(parts)
        return JoinedEncoder(
            [load_encoder(p, cache_folder, bundles, v) for p, v in zip(parts, wanted, strict=True)]
        )
    found = bundle.read(bundles, name, version)
    if found.about.kind == "siamese":
        if name in found.about.trunk.split("+"):
            raise BundleError(f"bundle {name} is its own trunk: train it with another --encoder")
        # the version it was trained on, whichever is the trunk's current one
        below = found.about.trunk_id.rpartition("@")[2]
        trunk = load_encoder(found.about.trunk, cache_folder, bundles, below)
        _check_trunk(found, trunk.id)
        return SiameseEncoder(name, found.version, trunk, SiameseHead.from_arrays(found.arrays()))
    if found.about.kind not in SIDES_PX:
        raise BundleError(f"bundle {name} is a {found.about.kind}, which is no encoder")
    # needed by the role that encodes alone
    from models.onnx_encoder import OnnxEncoder

    graph = found.graph("encoder")
    return OnnxEncoder(name, found.version, graph, SIDES_PX[found.about.kind])


def load_classifier(name: str, bundles: Path, trunk_id: str) -> Classifier:
    """The classifier of that name. Raises `BundleError` if it takes another trunk's vectors."""
    found = bundle.read(bundles, name)
    if found.about.kind == "tuned":
        # a tuned network's own head goes with no other vectors
        if trunk_id != f"{name}@{found.version}":
            raise BundleError(f"the classifier {name} takes vectors of itself, not of {trunk_id}")
    elif found.about.kind == "classifier":
        _check_trunk(found, trunk_id)
    else:
        raise BundleError(f"bundle {name} is a {found.about.kind}, not a classifier")
    told = found.about.settings
    return classifier.from_arrays(
        found.arrays(), told["classes"], told["temperature"], told["threshold"]
    )


class WatchedClassifier:
    """A classifier by name that is swapped when a new version of it becomes the current one.

    A new version that cannot be used is left alone and told in `problem`; the old one goes on.
    `version` is the one that was looked at last.
    """

    def __init__(self, name: str, bundles: Path, trunk_id: str) -> None:
        self._name = name
        self._bundles = bundles
        self._trunk_id = trunk_id
        self.version = bundle.current_version(bundles, name)
        self._classifier = load_classifier(name, bundles, trunk_id)
        self.problem = ""

    def top(self, vectors: Vectors, k: int = 3) -> list[list[tuple[str, float]]]:
        """See `Classifier.top`, by the version that is current now."""
        version = bundle.current_version(self._bundles, self._name)
        if version != self.version:
            self.version = version
            try:
                self._classifier = load_classifier(self._name, self._bundles, self._trunk_id)
                self.problem = ""
            except (OSError, LookupError, ValueError, TypeError) as error:
                self.problem = str(error)
        return self._classifier.top(vectors, k)


def load_mapping(name: str, bundles: Path, encoder_id: str) -> ImageMapping:
    """The mapping of that name. Raises `BundleError` if it maps another encoder's vectors."""
    found = bundle.read(bundles, name, kind="mapping")
    _check_trunk(found, encoder_id)
    return ImageMapping.from_arrays(found.arrays())


def _check_trunk(found: Bundle, there: str) -> None:
    if found.about.trunk_id != there:
        raise BundleError(
            f"bundle {found.name} was trained on vectors of {found.about.trunk_id}, not of {there}"
        )
