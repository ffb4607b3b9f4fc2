"""Trains classifiers on cached features of photos: layers by gradient, or a kernel machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional

from models.calibration import fit_temperature
from models.classifier import Classifier, KernelClassifier, LayeredClassifier, prepared
from models.training import History, Progress, Schedule, fit, silent
from models.unit_rows import Vectors

Labels = npt.NDArray[np.int64]
Kind = TypeVar("Kind", bound=Classifier)
SVM_ROWS_MAX = 10_000  # photos times views: the kernel has their square, 12 bytes each


@dataclass(frozen=True)
class HeadSettings:
    """`hidden` of 0 is a linear head. Prepared features are multiplied by `scale` to train."""

    hidden: int = 0
    power: float = 0.5
    batch: int = 128
    dropout: float = 0.3
    label_smoothing: float = 0.1
    scale: float = 30.0


def train_head(
    train: npt.NDArray[np.floating],
    train_labels: Labels,
    validation: Vectors,
    validation_labels: Labels,
    classes: Sequence[str],
    settings: HeadSettings,
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> tuple[LayeredClassifier, History]:
    """A linear or one-hidden-layer head on the frozen trunk.

    `train` holds features (photos, views, features), `validation` (photos, features). The epoch
    with the best accuracy in validation is kept, and its photos calibrate.
    """
    flat = prepared(train.reshape(-1, train.shape[2]), settings.power)
    views = torch.tensor(flat.reshape(train.shape))
    targets = torch.tensor(train_labels)
    torch.manual_seed(schedule.seed)
    sizes = [train.shape[2], *([settings.hidden] if settings.hidden else []), len(classes)]
    layers = [nn.Linear(one, other) for one, other in pairwise(sizes)]
    steps: list[nn.Module] = []
    for layer in layers:
        steps += [nn.Dropout(settings.dropout), layer, nn.ReLU()]
    network = nn.Sequential(*steps[:-1])

    def batches(generator: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = generator.permutation(len(views))
        for start in range(0, len(order), settings.batch):
            rows = order[start : start + settings.batch]
            chosen = generator.integers(0, views.shape[1], len(rows))
            yield settings.scale * views[rows, chosen], targets[rows]

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        answers = network(batch[0])
        return functional.cross_entropy(answers, batch[1], label_smoothing=settings.label_smoothing)

    held_out = settings.scale * torch.tensor(prepared(validation, settings.power))

    def score() -> float:
        answers = network(held_out)
        right = (answers.argmax(dim=1).numpy() == validation_labels).mean()
        # accuracy moves in steps of a photo: between equal ones the smaller loss wins
        loss = functional.cross_entropy(answers, torch.tensor(validation_labels))
        return float(right) - 1e-3 * float(loss)

    history = fit(network, batches, loss, score, schedule, checkpoint, progress)
    weights = [layer.weight.detach().numpy().T.copy() for layer in layers]
    weights[0] *= settings.scale
    biases = [layer.bias.detach().numpy().copy() for layer in layers]
    head = LayeredClassifier(tuple(classes), 1.0, 0.0, settings.power, weights, biases)
    return calibrated(head, validation, validation_labels), history


def train_svm(
    train: npt.NDArray[np.floating],
    train_labels: Labels,
    validation: Vectors,
    validation_labels: Labels,
    classes: Sequence[str],
    regularisation: Sequence[float] = (3.0, 10.0),
    gammas: Sequence[float] = (1.0, 2.0),
    power: float = 0.5,
) -> KernelClassifier:
    """The kernel machine whose C and gamma are best in validation. `train` as in `train_head`.

    It takes memory by the square of the rows: `SVM_ROWS_MAX` of them, 1.2 GB.
    """
    flat = prepared(train.reshape(-1, train.shape[2]), power)
    labels = np.repeat(train_labels, train.shape[1])
    best, best_right = None, -1.0
    for gamma in gammas:
        # all machines share this, and the product in it is most of the work; what it takes grows
        # with the square of the rows, so all is done in place
        kernel = (flat @ flat.T).astype(np.float64)
        kernel *= 2
        np.subtract(2, kernel, out=kernel)
        kernel *= -gamma
        np.exp(kernel, out=kernel)
        for c in regularisation:
            machine = _machine(kernel, flat, labels, classes, c, gamma, power)
            answers = machine.probabilities(validation).argmax(axis=1)
            right = float((answers == validation_labels).mean())
            if right > best_right:
                best, best_right = machine, right
    if best is None:
        raise ValueError("no value of C or gamma to try")
    return calibrated(best, validation, validation_labels)


def _machine(
    kernel: npt.NDArray[np.float64],
    flat: Vectors,
    labels: Labels,
    classes: Sequence[str],
    c: float,
    gamma: float,
    power: float,
) -> KernelClassifier:
    # one machine a class, of two classes too, where scikit-learn's own one-versus-rest makes one
    columns = np.unique(labels)
    machines = [SVC(C=c, kernel="precomputed").fit(kernel, labels == column) for column in columns]
    supports = np.unique(np.concatenate([one.support_ for one in machines]))
    duals = np.zeros((len(supports), len(classes)), np.float32)
    intercepts = np.full(len(classes), -1.0, np.float32)
    for column, one in zip(columns, machines, strict=True):
        duals[np.searchsorted(supports, one.support_), column] = one.dual_coef_[0]
        intercepts[column] = one.intercept_[0]
    return KernelClassifier(
        tuple(classes), 1.0, 0.0, power, gamma, flat[supports], duals, intercepts
    )


def calibrated(
    classifier: Kind, validation: Vectors, labels: Labels, known_share: float = 0.98
) -> Kind:
    """With the temperature that validation asks for, and its threshold of `unknown`.

    The threshold is the confidence that `known_share` of the rightly classified reach.
    """
    scores = classifier.scores(prepared(validation, classifier.power))
    warm = replace(classifier, temperature=fit_temperature(scores, labels))
    chances = warm.probabilities(validation)
    right = chances.argmax(axis=1) == labels
    confident = chances.max(axis=1)[right]
    threshold = float(np.quantile(confident, 1 - known_share)) if len(confident) else 0.0
    return replace(warm, threshold=threshold)
