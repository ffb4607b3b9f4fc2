"""Training on photos, from a folder to a bundle: `recsys train classifier|siamese|alexnet|mapping`.

Each function reads a folder, keeps products apart, computes what the frozen trunk makes of the
photos (once: it is cached), trains, measures on the part that nothing was chosen by, and writes a
bundle with its report and its learning curve.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models import bundle, photos, trained
from models.bundle import About, Bundle
from models.calibration import Isotonic, expected_calibration_error
from models.classifier import Classifier
from models.encoder import Encoder, unit_rows
from models.photos import Photo
from models.retrieval import retrieval
from models.views import cached_views

ClassifierKind = Literal["linear", "hidden", "svm", "fine-tune"]
Array = npt.NDArray[Any]
Watch = Callable[[str, int, int], None]  # what is done, how much of it, of how much
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


class TrainingError(ValueError):
    """The folder cannot be trained on; the message says why."""


@dataclass(frozen=True)
class Job:
    """What to train on, and where to.

    `label_is_product`: each label's photos show one product (and products, not photos, are then
    kept apart whatever the folder's own split). `cache` keeps the encoders' graphs; `work` what a
    run computes on its way, and where it was interrupted.
    """

    folder: Path
    name: str
    bundles: Path
    cache: Path
    work: Path
    encoder: str = "efficientnet-lite0"
    label_is_product: bool = False
    views: int = 8
    seed: int = 0
    epochs: int | None = None
    learning_rate: float | None = None
    licence: str = ""
    origin: str = ""
    watch: Watch = field(default=lambda _what, _done, _total: None, compare=False)

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted run goes on from."""
        return self.work / f"{self.name}.checkpoint"


@dataclass(frozen=True)
class Parts:
    """A folder's photos by part, and the labels' names by number."""

    photos: Mapping[str, Sequence[Photo]]
    classes: tuple[str, ...]
    digest: str

    def labels(self, part: str) -> npt.NDArray[np.int64]:
        """The label number of each photo of a part."""
        number = {name: place for place, name in enumerate(self.classes)}
        return np.array([number[photo.label] for photo in self.photos[part]], np.int64)


def read_parts(job: Job) -> Parts:
    """The folder's photos in `train`, `validation` and `test`, products apart.

    Raises `TrainingError` where a part is empty or there are fewer than two labels.
    """
    found = photos.read_folder(job.folder, job.label_is_product)
    if job.label_is_product:
        # labels are what is kept apart: a split of each product's photos is not for this
        found = [replace(photo, split="", label=photo.product) for photo in found]
        products = sorted({photo.product for photo in found})
        order = photos.split_by_product(
            [Photo(Path(p), "", p) for p in products], _held_out(len(products)), job.seed
        )
        place = {photo.product: part for part, group in order.items() for photo in group}
        parts = {part: [p for p in found if place[p.product] == part] for part in SHARES}
    else:
        parts = photos.split_by_product(found, SHARES, job.seed)
    classes = tuple(sorted({photo.label for photo in found}))
    if len(classes) < 2 or not all(parts.get(part) for part in SHARES):
        counts = {part: len(group) for part, group in parts.items()}
        raise TrainingError(f"too little to train on: {len(classes)} labels, photos {counts}")
    return Parts(parts, classes, photos.digest(found))


def _held_out(products: int) -> dict[str, float]:
    """A quarter of the products for the test, a tenth for validation, at least two of each."""
    test, validation = max(2, round(products / 4)), max(2, round(products / 10))
    return {"train": products - test - validation, "validation": validation, "test": test}


def features(job: Job, encoder: Encoder, parts: Parts, part: str, views: int) -> Array:
    """The encoder's features (photos, views, dim) of a part, computed once and kept."""
    group = parts.photos[part]
    return cached_views(
        job.work / "views", _file_name(encoder.id), encoder.features, group, views, job.seed,
        _counter(job, f"{part} photos", len(group) * views),
    )  # fmt: skip


def _counter(job: Job, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        job.watch(what, done, total)

    return count


def _file_name(name: str) -> str:
    return name.replace("@", "-").replace("/", "-")


def train_classifier(job: Job, kind: ClassifierKind = "linear") -> Bundle:
    """A classifier of the folder's labels on the frozen encoder, or with its end fine-tuned."""
    if kind == "fine-tune":
        return _tune(job)
    from models.classifier_training import HeadSettings, train_head, train_svm
    from models.training import Schedule

    started = time.monotonic()
    parts = read_parts(job)
    encoder = trained.load_encoder(job.encoder, job.cache, job.bundles)
    train = features(job, encoder, parts, "train", job.views)
    validation = np.asarray(features(job, encoder, parts, "validation", 1)[:, 0], np.float32)
    test = np.asarray(features(job, encoder, parts, "test", 1)[:, 0], np.float32)
    labels, held = parts.labels("train"), parts.labels("validation")
    report: dict[str, Any] = {}
    model: Classifier
    if kind == "svm":
        model = train_svm(train[:, :2], labels, validation, held, parts.classes)
    else:
        settings = HeadSettings(hidden=512 if kind == "hidden" else 0)
        schedule = _schedule(job, Schedule(epochs=40, learning_rate=2e-3, weight_decay=0.02))
        model, history = train_head(
            train, labels, validation, held, parts.classes, settings, schedule,
            job.checkpoint, _epochs(job, schedule.epochs),
        )  # fmt: skip
        report = {
            "head": asdict(settings),
            "schedule": asdict(schedule),
            "history": asdict(history),
        }
    metrics = {
        "validation": accuracy(model, validation, held),
        "test": accuracy(model, test, parts.labels("test")),
        "seconds": round(time.monotonic() - started, 1),
    }
    about = _about(job, "classifier", parts, metrics, encoder.id, {"head": kind, **_served(model)})
    return _finish(job, about, model.arrays(), {}, report)


def _tune(job: Job) -> Bundle:
    from models import efficientnet, onnx_graph
    from models.finetuning import TuneSettings, tune
    from models.onnx_encoder import OnnxEncoder
    from models.training import Schedule

    if job.encoder != "efficientnet-lite0":
        raise TrainingError("fine-tuning is for efficientnet-lite0")
    started = time.monotonic()
    parts = read_parts(job)
    release, settings = efficientnet.LITE0, TuneSettings()
    weights = efficientnet.folded_weights(release)
    beginning = onnx_graph.efficientnet_lite(weights, release.repeats, settings.first_block)
    trunk = trained.load_encoder(job.encoder, job.cache, job.bundles)
    cut = OnnxEncoder(trunk.name, "cut", beginning, release.side_px)
    maps: dict[str, Array] = {
        part: cached_views(
            job.work / "views", _file_name(f"{trunk.id}-{settings.first_block}"), cut.maps,
            parts.photos[part], views, job.seed,
            _counter(job, f"{part} photos", len(parts.photos[part]) * views),
        )
        for part, views in (("train", job.views), ("validation", 1))
    }  # fmt: skip
    schedule = _schedule(job, Schedule(epochs=12, learning_rate=1e-3, weight_decay=0.02))
    held = parts.labels("validation")
    tuned, head, history = tune(
        weights, release.repeats, maps["train"], parts.labels("train"), maps["validation"][:, 0],
        held, parts.classes, settings, schedule, job.checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    graph = onnx_graph.efficientnet_lite(tuned, release.repeats)
    encoder = OnnxEncoder(job.name, "0", graph, release.side_px)
    metrics = {
        part: accuracy(head, encoder.encode(_open(parts.photos[part])), parts.labels(part))
        for part in ("validation", "test")
    } | {"seconds": round(time.monotonic() - started, 1)}
    told = {"head": "fine-tune", **_served(head)}
    about = _about(job, "tuned", parts, metrics, "", told)
    report = {
        "tuning": asdict(settings), "schedule": asdict(schedule), "history": asdict(history),
    }  # fmt: skip
    return _finish(job, about, head.arrays(), {"encoder": graph}, report)


def train_siamese(job: Job, loss: str = "in-batch") -> Bundle:
    """The Siamese head on the frozen encoder, measured against it on products of neither part."""
    from models import siamese_training
    from models.siamese_training import SiameseSettings
    from models.training import Schedule

    if loss not in siamese_training.LOSSES:
        raise TrainingError(f"no loss {loss!r}; there are {', '.join(siamese_training.LOSSES)}")
    started = time.monotonic()
    parts = read_parts(job)
    encoder = trained.load_encoder(job.encoder, job.cache, job.bundles)
    train = features(job, encoder, parts, "train", job.views)
    validation, test = (
        unit_rows(features(job, encoder, parts, part, 1)[:, 0]) for part in ("validation", "test")
    )
    settings = SiameseSettings(loss=next(name for name in siamese_training.LOSSES if name == loss))
    schedule = _schedule(job, Schedule(epochs=20, learning_rate=0.02, weight_decay=0.0))
    head, history = siamese_training.train_siamese(
        train, parts.labels("train"), validation, parts.labels("validation"), settings, schedule,
        job.checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    labels = parts.labels("test")
    metrics = {
        "frozen": retrieval(test, labels)._asdict(),
        "test": retrieval(head.embed(test), labels)._asdict(),
        "same_product_cosine": same_product_cosine(head.pair_curve),
        "seconds": round(time.monotonic() - started, 1),
    }
    about = _about(job, "siamese", parts, metrics, encoder.id, asdict(settings))
    report = {"schedule": asdict(schedule), "history": asdict(history)}
    return _finish(job, about, head.arrays(), {}, report)


def same_product_cosine(curve: Isotonic, probability: float = 0.95) -> float:
    """From which cosine on two photos show one product with that probability; 2 where none do."""
    cosines = np.linspace(-1, 1, 2001)
    enough = cosines[curve(cosines) >= probability]
    return round(float(enough[0]), 3) if len(enough) else 2.0


def train_alexnet(job: Job, width: int = 4096) -> Bundle:
    """AlexNet from scratch on the folder's labels. `width` is that of fc6 and fc7."""
    from models.alexnet import SIDE_PX, AlexNetSettings
    from models.alexnet import train_alexnet as train_network
    from models.onnx_encoder import OnnxEncoder, padded
    from models.training import Schedule

    started = time.monotonic()
    parts = read_parts(job)
    side_px = SIDE_PX + 29  # the paper crops 224 of 256

    def pixels(part: str) -> npt.NDArray[np.uint8]:
        count = _counter(job, f"{part} photos", len(parts.photos[part]))
        rows = []
        for photo in parts.photos[part]:
            rows.append(np.asarray(padded(photo.open(), side_px)))
            count(1)
        return np.stack(rows)

    settings = AlexNetSettings(width=width)
    schedule = _schedule(job, Schedule(epochs=20, learning_rate=3e-4, weight_decay=0.02))
    network, history = train_network(
        pixels("train"), parts.labels("train"), pixels("validation"), parts.labels("validation"),
        parts.classes, settings, schedule, job.checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    graph = network.graph()
    encoder = OnnxEncoder(job.name, "0", graph, SIDE_PX)
    head = {name: value.numpy() for name, value in network.fc8.state_dict().items()}
    vectors = encoder.features(_open(parts.photos["test"]))
    labels = parts.labels("test")
    answers = (vectors @ head["weight"].T + head["bias"]).argmax(axis=1)
    metrics = {
        "test": share(int((answers == labels).sum()), len(labels)),
        "retrieval": retrieval(unit_rows(vectors), labels)._asdict(),
        "seconds": round(time.monotonic() - started, 1),
    }
    about = _about(job, "alexnet", parts, metrics, "", {"classes": list(parts.classes)})
    report = {
        "network": asdict(settings), "schedule": asdict(schedule), "history": asdict(history),
    }  # fmt: skip
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    return _finish(job, about, arrays, {"encoder": graph}, report)


@dataclass(frozen=True)
class MappingJob:
    """Products' image vectors and factors in one file, and the encoder of the former."""

    vectors: Path
    name: str
    bundles: Path
    encoder_id: str
    seed: int = 0
    licence: str = ""
    origin: str = ""


def train_mapping(job: MappingJob) -> Bundle:
    """The ridge map from images to factors, measured on a fifth of the products."""
    from models.mapping import fit_mapping

    images, factors, weights = _read_vectors(job.vectors)
    test = np.random.default_rng(job.seed).permutation(len(images)) % 5 == 0
    mapping = fit_mapping(images[~test], factors[~test], weights[~test], seed=job.seed)
    mapped, mean = mapping(images[test]), factors[~test].mean(axis=0)
    error = float(((mapped - factors[test]) ** 2).sum())
    cosines = (unit_rows(mapped) * unit_rows(factors[test])).sum(axis=1)
    metrics = {
        "explained": round(1 - error / float(((mean - factors[test]) ** 2).sum()), 4),
        "cosine": round(float(cosines.mean()), 4),
        "products": int(test.sum()),
    }
    data = {
        "digest": hashlib.sha256(job.vectors.read_bytes()).hexdigest(),
        "products": len(images),
        "licence": job.licence,
        "origin": job.origin,
    }
    whole = fit_mapping(images, factors, weights, seed=job.seed)
    settings = {"penalty": whole.penalty, "seed": job.seed}
    about = About("mapping", "", job.encoder_id, settings, metrics, data)
    return bundle.write(job.bundles, job.name, about, whole.arrays())


def _read_vectors(path: Path) -> tuple[Array, Array, Array]:
    """Images, factors and weights of a file. Raises `TrainingError` where they do not fit."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            arrays = dict(load_file(path))
        images, factors = arrays["images"], arrays["factors"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise TrainingError(f"{path}: no arrays `images` and `factors` ({error})") from error
    weights = arrays.get("weights", np.ones(len(images)))
    if images.ndim != 2 or factors.ndim != 2 or not len(images) == len(factors) == len(weights):
        raise TrainingError(f"{path}: `images` and `factors` need a row for each product")
    if len(images) < 10:
        raise TrainingError(f"{path}: ten products are needed, these are {len(images)}")
    return images, factors, weights


def _open(group: Sequence[Photo]) -> list[Image.Image]:
    return [photo.open() for photo in group]


def accuracy(model: Classifier, vectors: Array, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Share of right answers with its 95 % interval, and how honest the probabilities are."""
    chances = model.probabilities(vectors)
    right = chances.argmax(axis=1) == labels
    calibration = expected_calibration_error(chances.max(axis=1), right)
    return share(int(right.sum()), len(right)) | {"calibration_error": round(calibration, 4)}


def share(right: int, count: int) -> dict[str, float]:
    """A share with its 95 % interval by Wilson (1927).

    >>> share(335, 372)
    {'accuracy': 0.9005, 'low': 0.8659, 'high': 0.927, 'count': 372}
    """
    z, p = 1.959964, right / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * (p * (1 - p) / count + z * z / (4 * count**2)) ** 0.5 / (1 + z * z / count)
    low, high = round(middle - half, 4), round(middle + half, 4)
    return {"accuracy": round(p, 4), "low": low, "high": high, "count": count}


def _schedule(job: Job, default: Any) -> Any:
    return replace(
        default,
        seed=job.seed,
        epochs=job.epochs or default.epochs,
        learning_rate=job.learning_rate or default.learning_rate,
    )


def _epochs(job: Job, total: int) -> Callable[[int, float, float], None]:
    def told(epoch: int, loss: float, score: float) -> None:
        job.watch(f"loss {loss:.3f}, validation {score:.3f}", epoch + 1, total)

    return told


def _served(model: Classifier) -> dict[str, Any]:
    return {
        "classes": list(model.classes),
        "temperature": model.temperature,
        "threshold": model.threshold,
    }


def _about(
    job: Job,
    kind: str,
    parts: Parts,
    metrics: dict[str, Any],
    trunk_id: str,
    settings: dict[str, Any],
) -> About:
    data = {
        "digest": parts.digest,
        "photos": {part: len(group) for part, group in parts.photos.items()},
        "products": {
            part: len({photo.product for photo in group}) for part, group in parts.photos.items()
        },
        "licence": job.licence,
        "origin": job.origin,
        "seed": job.seed,
    }
    return About(kind, job.encoder if trunk_id else "", trunk_id, settings, metrics, data)


def _finish(
    job: Job,
    about: About,
    arrays: Mapping[str, Array],
    graphs: Mapping[str, bytes],
    report: dict[str, Any],
) -> Bundle:
    """Writes the bundle, the report and the curve; the checkpoint has done its work then."""
    written = bundle.write(job.bundles, job.name, about, arrays, graphs)
    told = {"name": written.name, "version": written.version, **asdict(about), **report}
    text = json.dumps(told, indent=2) + "\n"
    (written.folder / "training.json").write_text(text, encoding="utf-8")
    if "history" in report:
        draw_curve(report["history"], written.folder / "curve.png")
    job.checkpoint.unlink(missing_ok=True)
    return written


def draw_curve(history: Mapping[str, Any], path: Path) -> None:
    """Loss and validation score by epoch, the kept epoch marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right = left.twinx()
    epochs = range(1, len(history["loss"]) + 1)
    left.plot(epochs, history["loss"], color="tab:blue")
    right.plot(epochs, history["score"], color="tab:orange")
    right.axvline(history["best_epoch"] + 1, color="grey", linestyle=":")
    left.set_xlabel("epoch (the kept one dotted)")
    left.set_ylabel("training loss", color="tab:blue")
    right.set_ylabel("validation score", color="tab:orange")
    figure.savefig(path, dpi=100)
