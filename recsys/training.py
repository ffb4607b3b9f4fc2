"""Training on photos, to a bundle: `recsys train classifier|siamese|alexnet`.

Each function takes a job's photos, keeps products apart, computes what the frozen trunk makes of
them (once: it is cached), trains, measures on the part that nothing was chosen by, and writes a
bundle with its report and its learning curve.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from models import trained
from models.bundle import Bundle
from models.classifier import Classifier
from models.encoder import Encoder
from models.photos import Photo
from models.retrieval import retrieval
from models.siamese import SiameseEncoder
from models.unit_rows import Vectors, unit_rows
from models.views import cached_views
from recsys.training_data import (
    Array,
    Job,
    Parts,
    TrainingError,
    counter,
    features,
    file_name,
    read_parts,
)
from recsys.training_report import (
    Stopwatch,
    about_of,
    accuracy,
    finish,
    same_product_cosine,
    served,
    share,
)

if TYPE_CHECKING:
    from models.training import History  # brings torch

ClassifierKind = Literal["best", "linear", "hidden", "svm", "fine-tune"]
HEADS: tuple[ClassifierKind, ...] = ("linear", "hidden", "svm")  # on the frozen trunk
SVM_VIEWS = 2  # the photo and its mirror image
BATCH = 64  # photos that are decoded at once: each takes up to a MB


def train_classifier(job: Job, kind: ClassifierKind = "best") -> Bundle:
    """A classifier of the photos' labels on the frozen encoder, or with its end fine-tuned.

    `best` trains every head and keeps the one that is most often right in validation; `svm` is
    left out of it, and refused, where it would take too much memory.
    """
    if kind == "fine-tune":
        return _tune(job)
    watch = Stopwatch()
    parts = read_parts(job)
    kinds = _heads(job, kind, len(parts.photos["train"]))
    encoder = _trunk(job)
    train = features(job, encoder, parts, "train", job.views)
    validation = np.asarray(features(job, encoder, parts, "validation", 1)[:, 0], np.float32)
    test = np.asarray(features(job, encoder, parts, "test", 1)[:, 0], np.float32)
    held = parts.labels("validation")
    heads = {each: _head(job, each, encoder.id, parts, train, validation) for each in kinds}
    right = {each: accuracy(head.model, validation, held) for each, head in heads.items()}
    chosen = max(heads, key=lambda each: right[each]["accuracy"])
    model = heads[chosen].model
    metrics = {
        "validation": right[chosen],
        "test": accuracy(model, test, parts.labels("test")),
        **watch.told(heads[chosen].history),
    }
    report = heads[chosen].report
    if kind == "best":
        report["validation of each head"] = {each: one["accuracy"] for each, one in right.items()}
    told = {"head": chosen, **served(model)}
    about = about_of(job, "classifier", parts, metrics, encoder, told)
    return finish(job, about, model.arrays(), {}, report)


def _heads(job: Job, kind: ClassifierKind, photos: int) -> Sequence[ClassifierKind]:
    """What is trained of so many photos. Raises `TrainingError` for more than `svm` can take."""
    from models.classifier_training import SVM_ROWS_MAX

    photos_max = SVM_ROWS_MAX // min(SVM_VIEWS, job.views)
    if photos <= photos_max or kind not in ("best", "svm"):
        return HEADS if kind == "best" else (kind,)
    told = f"svm takes at most {photos_max:,} photos to train on, these are {photos:,}"
    if kind == "svm":
        raise TrainingError(f"{told}: --kind linear or hidden")
    job.say(f"{told}: it is left out")
    return [each for each in HEADS if each != "svm"]


@dataclass(frozen=True)
class _Head:
    """A head that was trained, what to report of it, and its epochs where it has any."""

    model: Classifier
    report: dict[str, Any]
    history: "History | None" = None


def _head(
    job: Job, kind: ClassifierKind, trunk_id: str, parts: Parts, train: Array, validation: Array
) -> _Head:
    from models.classifier_training import HeadSettings, train_head, train_svm
    from models.training import Schedule

    labels, held = parts.labels("train"), parts.labels("validation")
    if kind == "svm":
        return _Head(train_svm(train[:, :SVM_VIEWS], labels, validation, held, parts.classes), {})
    settings = HeadSettings(hidden=512 if kind == "hidden" else 0)
    schedule = _schedule(job, Schedule(epochs=40, learning_rate=2e-3, weight_decay=0.02))
    checkpoint = job.checkpoint(trunk_id, parts.digest, parts.split, schedule, settings)
    model, history = train_head(
        train, labels, validation, held, parts.classes, settings, schedule,
        checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    report = {"head": asdict(settings), "schedule": asdict(schedule), "history": asdict(history)}
    return _Head(model, report, history)


def _tune(job: Job) -> Bundle:
    from models import efficientnet, onnx_graph
    from models.finetuning import TuneSettings, tune
    from models.onnx_encoder import OnnxEncoder
    from models.training import Schedule

    if job.encoder != "efficientnet-lite0":
        raise TrainingError("fine-tuning is for efficientnet-lite0")
    watch = Stopwatch()
    parts = read_parts(job)
    release, settings = efficientnet.LITE0, TuneSettings()
    weights = efficientnet.folded_weights(release)
    beginning = onnx_graph.efficientnet_lite(weights, release.repeats, settings.first_block)
    trunk = _trunk(job)
    cut = OnnxEncoder(trunk.name, "cut", beginning, release.side_px)
    maps: dict[str, Array] = {
        part: cached_views(
            job.work / "views", file_name(f"{trunk.id}-{settings.first_block}"), cut.maps,
            parts.photos[part], views, job.seed,
            counter(job, f"{part} photos", len(parts.photos[part]) * views),
        )
        for part, views in (("train", job.views), ("validation", 1))
    }  # fmt: skip
    schedule = _schedule(job, Schedule(epochs=6, learning_rate=1e-3, weight_decay=0.02))
    checkpoint = job.checkpoint(trunk.id, parts.digest, parts.split, schedule, settings)
    held = parts.labels("validation")
    tuned, head, history = tune(
        weights, release.repeats, maps["train"], parts.labels("train"), maps["validation"][:, 0],
        held, parts.classes, settings, schedule, checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    graph = onnx_graph.efficientnet_lite(tuned, release.repeats)
    encoder = OnnxEncoder(job.name, "0", graph, release.side_px)
    metrics = {
        part: accuracy(head, _batched(encoder.encode, parts.photos[part]), parts.labels(part))
        for part in ("validation", "test")
    } | watch.told(history)
    told = {"head": "fine-tune", **served(head)}
    about = about_of(job, "tuned", parts, metrics, None, told)
    report = {
        "tuning": asdict(settings), "schedule": asdict(schedule), "history": asdict(history),
    }  # fmt: skip
    return finish(job, about, head.arrays(), {"encoder": graph}, report)


def train_siamese(job: Job, loss: str = "in-batch") -> Bundle:
    """The Siamese head on the frozen encoder, measured against it on products of neither part."""
    from models import siamese_training
    from models.siamese_training import SiameseSettings
    from models.training import Schedule

    if loss not in siamese_training.LOSSES:
        raise TrainingError(f"no loss {loss!r}; there are {', '.join(siamese_training.LOSSES)}")
    watch = Stopwatch()
    parts = read_parts(job)
    for part in ("validation", "test"):
        labels = parts.labels(part)
        if not _find_each_other(labels) or len(np.unique(labels)) == 1:
            raise TrainingError(
                f"the photos of the part {part} need two labels, and two photos of one of them"
            )
    encoder = _trunk(job)
    train = features(job, encoder, parts, "train", job.views)
    validation, test = (
        unit_rows(features(job, encoder, parts, part, 1)[:, 0]) for part in ("validation", "test")
    )
    settings = SiameseSettings(loss=next(name for name in siamese_training.LOSSES if name == loss))
    schedule = _schedule(job, Schedule(epochs=20, learning_rate=0.02, weight_decay=0.0))
    checkpoint = job.checkpoint(encoder.id, parts.digest, parts.split, schedule, settings)
    head, history = siamese_training.train_siamese(
        train, parts.labels("train"), validation, parts.labels("validation"), settings, schedule,
        checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    labels = parts.labels("test")
    metrics = {
        "frozen": retrieval(test, labels)._asdict(),
        "test": retrieval(head.embed(test), labels)._asdict(),
        "same_product_cosine": same_product_cosine(head.pair_curve),
        **watch.told(history),
    }
    about = about_of(job, "siamese", parts, metrics, encoder, asdict(settings))
    report = {"schedule": asdict(schedule), "history": asdict(history)}
    return finish(job, about, head.arrays(), {}, report)


def train_alexnet(job: Job, width: int = 4096) -> Bundle:
    """AlexNet from scratch on the photos' labels. `width` is that of fc6 and fc7."""
    from models.alexnet import SIDE_PX, AlexNetSettings
    from models.alexnet import train_alexnet as train_network
    from models.onnx_encoder import OnnxEncoder, padded
    from models.training import Schedule

    watch = Stopwatch()
    parts = read_parts(job)
    side_px = SIDE_PX + 29  # the paper crops 224 of 256

    def pixels(part: str) -> npt.NDArray[np.uint8]:
        count = counter(job, f"{part} photos", len(parts.photos[part]))
        rows = []
        for photo in parts.photos[part]:
            rows.append(np.asarray(padded(photo.open(), side_px)))
            count(1)
        return np.stack(rows)

    settings = AlexNetSettings(width=width)
    schedule = _schedule(job, Schedule(epochs=20, learning_rate=3e-4, weight_decay=0.02))
    checkpoint = job.checkpoint(parts.digest, parts.split, schedule, settings)
    network, history = train_network(
        pixels("train"), parts.labels("train"), pixels("validation"), parts.labels("validation"),
        parts.classes, settings, schedule, checkpoint, _epochs(job, schedule.epochs),
    )  # fmt: skip
    graph = network.graph()
    encoder = OnnxEncoder(job.name, "0", graph, SIDE_PX)
    head = {name: value.numpy() for name, value in network.fc8.state_dict().items()}
    vectors = _batched(encoder.features, parts.photos["test"])
    labels = parts.labels("test")
    answers = (vectors @ head["weight"].T + head["bias"]).argmax(axis=1)
    metrics = {
        "test": share(int((answers == labels).sum()), len(labels)),
        **watch.told(history),
    }
    if _find_each_other(labels):
        metrics["retrieval"] = retrieval(unit_rows(vectors), labels)._asdict()
    about = about_of(job, "alexnet", parts, metrics, None, {"classes": list(parts.classes)})
    report = {
        "network": asdict(settings), "schedule": asdict(schedule), "history": asdict(history),
    }  # fmt: skip
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    return finish(job, about, arrays, {"encoder": graph}, report)


def _trunk(job: Job) -> Encoder:
    """What is trained on: of a Siamese head its own trunk, which is what classifiers are served.

    Raises `TrainingError` where the bundle would take the trunk's name.
    """
    encoder = trained.load_encoder(job.encoder, job.cache, job.bundles)
    if isinstance(encoder, SiameseEncoder):
        encoder = encoder.trunk
    if job.name in encoder.name.split("+"):
        raise TrainingError(f"{job.name} is the trunk: --name must be another")
    return encoder


def _batched(encode: Callable[[list[Image.Image]], Vectors], group: Sequence[Photo]) -> Vectors:
    """What an encoder makes of photos, a batch of them in memory at once."""
    starts = range(0, len(group), BATCH)
    return np.concatenate(
        [encode([photo.open() for photo in group[start : start + BATCH]]) for start in starts]
    )


def _find_each_other(labels: npt.NDArray[np.int64]) -> bool:
    """Whether two photos have one label: else there is nothing to find by a photo."""
    return len(np.unique(labels)) < len(labels)


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
