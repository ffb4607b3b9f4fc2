"""What a training leaves: figures with their intervals, the bundle, its report and its curve."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models import bundle
from models.bundle import About, Bundle
from models.calibration import Isotonic, expected_calibration_error
from models.classifier import Classifier
from models.encoder import Encoder
from recsys.training_data import Array, Job, Parts

if TYPE_CHECKING:
    from models.training import History


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


class Stopwatch:
    """How long a training took, epochs of runs that were interrupted included."""

    def __init__(self) -> None:
        self._begun, self._cpu_begun = time.monotonic(), time.process_time()

    def told(self, history: "History | None" = None) -> dict[str, float]:
        """`seconds` that went by and `cpu_seconds` that were worked, by all cores together."""
        seconds = time.monotonic() - self._begun
        cpu_seconds = time.process_time() - self._cpu_begun
        if history is not None:
            seconds += sum(history.seconds[: history.resumed])
            cpu_seconds += sum(history.cpu_seconds[: history.resumed])
        return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}


def same_product_cosine(curve: Isotonic, probability: float = 0.95) -> float:
    """From which cosine on two photos show one product with that probability; 2 where none do."""
    cosines = np.linspace(-1, 1, 2001)
    enough = cosines[curve(cosines) >= probability]
    return round(float(enough[0]), 3) if len(enough) else 2.0


def served(model: Classifier) -> dict[str, Any]:
    """What a classifier needs besides its weights."""
    return {
        "classes": list(model.classes),
        "temperature": model.temperature,
        "threshold": model.threshold,
    }


def about_of(
    job: Job,
    kind: str,
    parts: Parts,
    metrics: dict[str, Any],
    trunk: Encoder | None,
    settings: dict[str, Any],
) -> About:
    """What the bundle will say of itself."""
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
    name, trunk_id = ("", "") if trunk is None else (trunk.name, trunk.id)
    return About(kind, name, trunk_id, settings, metrics, data)


def finish(
    job: Job,
    about: About,
    arrays: Mapping[str, Array],
    graphs: Mapping[str, bytes],
    report: dict[str, Any],
) -> Bundle:
    """Writes the bundle, the report and the curve; checkpoints have done their work then."""
    written = bundle.write(job.bundles, job.name, about, arrays, graphs)
    told = {"name": written.name, "version": written.version, **asdict(about), **report}
    text = json.dumps(told, indent=2) + "\n"
    (written.folder / "training.json").write_text(text, encoding="utf-8")
    if "history" in report:
        draw_curve(report["history"], written.folder / "curve.png")
    shutil.rmtree(job.checkpoints, ignore_errors=True)
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
