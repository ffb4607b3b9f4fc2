"""Trains the Siamese head on cached features of photos: contrastive, triplet or in-batch.

The projection starts as what the statistics of the training products give in closed form: the
directions in which photos of one product differ are shrunk (within-class covariance
normalisation, Hatch et al. 2006), then the widest `dim` axes are kept. The gradient goes on from
there; from a random start it forgets what the trunk knows of products it has not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.calibration import Isotonic
from models.encoder import Vectors, unit_rows
from models.retrieval import retrieval
from models.siamese import SiameseHead
from models.training import History, Progress, Schedule, fit, silent

LossName = Literal["contrastive", "triplet", "in-batch"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SiameseSettings:
    """Batches hold `products` times `views` photos; a smaller `temperature` sees near ones only."""

    loss: LossName = "in-batch"
    dim: int = 256
    products: int = 32
    views: int = 4
    batches_per_epoch: int = 20
    temperature: float = 0.05
    margin: float = 0.2
    contrastive_margin: float = 1.1
    dropout: float = 0.2
    shrinkage: float = 1.0


class Head(nn.Module):
    """The projection while it is trained."""

    def __init__(self, mean: Vectors, projection: Vectors, dropout: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.projection = nn.Parameter(torch.tensor(projection))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Unit embeddings (n, dim) of unit features (n, features)."""
        centred = self.dropout(features - self.mean)
        return functional.normalize(centred @ self.projection, dim=1)


def whitening(
    features: Floats, labels: Labels, dim: int, shrinkage: float
) -> tuple[Vectors, Vectors]:
    """Mean (features,) and projection (features, dim) that shrink what varies within a label.

    `shrinkage` is how much of the mean variance is added to every direction: features are more
    than the photos can tell of.
    """
    rows = np.asarray(features, np.float64)
    mean = rows.mean(axis=0)
    _, numbers = np.unique(labels, return_inverse=True)
    sums = np.zeros((numbers.max() + 1, rows.shape[1]))
    np.add.at(sums, numbers, rows)
    within = rows - (sums / np.bincount(numbers)[:, None])[numbers]
    covariance = within.T @ within / len(rows)
    spread, axes = np.linalg.eigh(covariance)
    scaled = axes / np.sqrt(np.maximum(spread, 0) + shrinkage * np.trace(covariance) / len(axes))
    white = (rows - mean) @ scaled
    _, widest = np.linalg.eigh(white.T @ white)
    projection = scaled @ widest[:, ::-1][:, :dim]
    projection /= np.linalg.norm((rows - mean) @ projection, axis=1).mean()
    return mean.astype(np.float32), projection.astype(np.float32)


def contrastive(embeddings: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Hadsell, Chopra & LeCun (2006): pulls pairs together, pushes others out of the margin."""
    same, other = _pairs(labels)
    squares = (2 - 2 * embeddings @ embeddings.T).clamp_min(1e-8)
    push = functional.relu(margin - squares[other].sqrt()).square().mean()
    return squares[same].mean() + 3 * push  # most pairs of others are far apart and weigh nothing


def triplet(embeddings: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Batch-hard triplets, Hermans, Beyer & Leibe (2017): the farthest same, the nearest other."""
    same, other = _pairs(labels)
    cosines = embeddings @ embeddings.T
    farthest = cosines.masked_fill(~same, torch.inf).amin(dim=1)
    nearest = cosines.masked_fill(~other, -torch.inf).amax(dim=1)
    return functional.relu(nearest - farthest + margin).mean()


def in_batch(embeddings: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Khosla et al. (2020), supervised contrastive: all others of a batch are negatives."""
    same, _ = _pairs(labels)
    itself = torch.eye(len(labels), dtype=torch.bool)
    scores = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf)
    chances = functional.log_softmax(scores, dim=1)
    return -(chances.masked_fill(~same, 0).sum(dim=1) / same.sum(dim=1)).mean()


def _pairs(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    equal = labels[:, None] == labels[None, :]
    return equal & ~torch.eye(len(labels), dtype=torch.bool), ~equal


def train_siamese(
    train: npt.NDArray[np.floating],
    train_labels: Labels,
    validation: Vectors,
    validation_labels: Labels,
    settings: SiameseSettings,
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> tuple[SiameseHead, History]:
    """The head and how it came about.

    `train` holds the trunk's features (photos, views, features), `validation` those of other
    products (photos, features); labels tell products, or categories, apart. The epoch with the
    best mAP@10 among the validation photos is kept, and pairs of them calibrate the probability.
    """
    flat = unit_rows(train.reshape(-1, train.shape[2]))
    views = torch.tensor(flat.reshape(train.shape))
    numbers = np.unique(train_labels, return_inverse=True)[1]
    plain = views[:, :2].reshape(-1, train.shape[2]).numpy()
    dim = min(settings.dim, train.shape[2])
    per_view = np.repeat(numbers, min(2, train.shape[1]))
    torch.manual_seed(schedule.seed)
    head = Head(*whitening(plain, per_view, dim, settings.shrinkage), settings.dropout)
    scale = float(head.projection.detach().std())

    def batches(generator: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        groups = [np.flatnonzero(numbers == label) for label in range(numbers.max() + 1)]
        for _ in range(settings.batches_per_epoch):
            rows = _draw(groups, settings, generator)
            chosen = generator.integers(0, train.shape[1], len(rows))
            yield views[rows, chosen], torch.tensor(numbers[rows])

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        embeddings, labels = head(batch[0]), batch[1]
        if settings.loss == "contrastive":
            return contrastive(embeddings, labels, settings.contrastive_margin)
        if settings.loss == "triplet":
            return triplet(embeddings, labels, settings.margin)
        return in_batch(embeddings, labels, settings.temperature)

    held_out = torch.tensor(unit_rows(validation))

    def score() -> float:
        embeddings = head(held_out).numpy()
        return retrieval(embeddings, validation_labels).mean_average_precision

    # the entries of the projection are far from 1: the rate goes by their size
    rates = {"": scale}
    history = fit(head, batches, loss, score, schedule, checkpoint, progress, rates)
    trained = head.state_dict()
    with torch.no_grad():
        curve = pair_curve(head(held_out).numpy(), validation_labels, schedule.seed)
    return SiameseHead(trained["mean"].numpy(), trained["projection"].numpy(), curve), history


def _draw(
    groups: Sequence[npt.NDArray[np.int64]],
    settings: SiameseSettings,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    chosen = generator.permutation(len(groups))[: settings.products]
    per_group = settings.views * settings.products // len(chosen)
    return np.concatenate([generator.choice(groups[g], per_group) for g in chosen])


def pair_curve(embeddings: Vectors, labels: Labels, seed: int = 0, pairs: int = 20_000) -> Isotonic:
    """Calibrates the cosine on as many pairs of one label as of two."""
    generator = np.random.default_rng(seed)
    one, other = np.triu_indices(len(labels), 1)
    same = labels[one] == labels[other]
    half = min(pairs // 2, int(same.sum()), int((~same).sum()))
    if half == 0:
        raise ValueError("validation needs two photos of one label and two labels")
    picks = np.concatenate([generator.permutation(np.flatnonzero(s))[:half] for s in (same, ~same)])
    cosines = (embeddings[one[picks]] * embeddings[other[picks]]).sum(axis=1)
    return Isotonic.fit(cosines, same[picks])
