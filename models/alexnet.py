"""AlexNet as published, trained by us: global features from fc7, local ones from conv5.

Krizhevsky, Sutskever & Hinton (2012): five convolutions (the second, fourth and fifth in two
groups, as on its two cards), local response normalisation after the first two, overlapping
pooling, three fully connected layers, dropout before the first two. Two departures: weights start
after He et al. (2015) and the optimiser is AdamW, since the paper's start does not leave the
ground on a few thousand photos; and the colour augmentation is ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.onnx_graph import ALEXNET_LRN_ALPHA, alexnet
from models.training import History, Progress, Schedule, fit, silent

SIDE_PX = 227
Labels = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


class LocalResponseNorm(nn.Module):
    """The paper's, n = 5, k = 2, beta = .75: torch's own takes half of a training step on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, rows, columns), each divided by what its neighbour channels add up to."""
        channel = torch.arange(x.shape[1])
        near = (channel[:, None] - channel).abs() <= 2
        weights = near.to(x.dtype)[:, :, None, None] * (ALEXNET_LRN_ALPHA / 5)
        root = (2 + functional.conv2d(x * x, weights)).rsqrt()
        return x * root * root.sqrt()


class AlexNet(nn.Module):
    """Scores (n, classes) of pictures, uint8 (n, 227, 227, 3). `width` is that of fc6 and fc7."""

    def __init__(self, classes: int, width: int = 4096, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(256 * 6 * 6, width)
        self.fc7 = nn.Linear(width, width)
        self.fc8 = nn.Linear(width, classes)
        self.normalise = LocalResponseNorm()
        self.pool = nn.MaxPool2d(3, stride=2)
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def local_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """conv5 after pooling, (n, 256, 6, 6)."""
        x = (pixels.float() - 127) / 128
        x = x.permute(0, 3, 1, 2)
        x = self.pool(self.normalise(functional.relu(self.conv1(x))))
        x = self.pool(self.normalise(functional.relu(self.conv2(x))))
        x = functional.relu(self.conv3(x))
        x = functional.relu(self.conv4(x))
        maps: torch.Tensor = self.pool(functional.relu(self.conv5(x)))
        return maps

    def global_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """fc7 after its ReLU, (n, width)."""
        x = self.dropout(self.local_features(pixels).flatten(1))
        x = self.dropout(functional.relu(self.fc6(x)))
        return functional.relu(self.fc7(x))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """See the class."""
        scores: torch.Tensor = self.fc8(self.global_features(pixels))
        return scores

    def graph(self) -> bytes:
        """The network up to fc7 as ONNX, for `models.onnx_encoder`."""
        return alexnet({name: value.numpy() for name, value in self.state_dict().items()})


@dataclass(frozen=True)
class AlexNetSettings:
    """Settings of the training besides its schedule."""

    width: int = 4096
    batch: int = 64
    dropout: float = 0.5
    label_smoothing: float = 0.1


def train_alexnet(
    train: Pixels,
    train_labels: Labels,
    validation: Pixels,
    validation_labels: Labels,
    classes: Sequence[str],
    settings: AlexNetSettings,
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> tuple[AlexNet, History]:
    """From scratch. Pictures are uint8 (n, side, side, 3), larger than 227 to leave room to crop.

    Every batch is cropped and mirrored at random, as in the paper, and its colours are shaken.
    """
    torch.manual_seed(schedule.seed)
    network = AlexNet(len(classes), settings.width, settings.dropout)

    def batches(generator: np.random.Generator) -> Iterator[tuple[Any, torch.Tensor]]:
        order = generator.permutation(len(train))
        for start in range(0, len(order), settings.batch):
            rows = np.sort(order[start : start + settings.batch])
            yield (rows, generator.integers(2**32)), torch.tensor(train_labels[rows])

    def loss(batch: tuple[Any, torch.Tensor]) -> torch.Tensor:
        (rows, seed), targets = batch
        pixels = torch.tensor(shaken(train[rows], np.random.default_rng(int(seed))))
        return functional.cross_entropy(
            network(pixels), targets, label_smoothing=settings.label_smoothing
        )

    middle = torch.tensor(cropped(validation))
    labels = torch.tensor(validation_labels)

    def score() -> float:
        scores = torch.cat([network(part) for part in torch.split(middle, 64)])
        right = (scores.argmax(dim=1) == labels).double().mean()
        return float(right) - 1e-3 * float(functional.cross_entropy(scores, labels))

    return network, fit(network, batches, loss, score, schedule, checkpoint, progress)


def cropped(pixels: Pixels) -> Pixels:
    """The middle 227 x 227 of each."""
    edge = (pixels.shape[1] - SIDE_PX) // 2
    return pixels[:, edge : edge + SIDE_PX, edge : edge + SIDE_PX]


def shaken(pixels: Pixels, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """A crop of 227 x 227 anywhere, mirrored half of the time, in other light; (n, 227, 227, 3)."""
    room = pixels.shape[1] - SIDE_PX
    result = np.empty((len(pixels), SIDE_PX, SIDE_PX, 3), np.float32)
    for number, picture in enumerate(pixels):
        top, left = generator.integers(0, room + 1, 2)
        part = picture[top : top + SIDE_PX, left : left + SIDE_PX]
        part = part[:, ::-1] if generator.random() < 0.5 else part
        light = generator.uniform(0.75, 1.25) * generator.uniform(0.9, 1.1, 3)
        result[number] = part * light
    return np.clip(result, 0, 255, out=result)
