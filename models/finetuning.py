"""Fine-tunes the end of a pretrained EfficientNet-Lite, its beginning frozen and cached.

The first blocks see every photo in several views once; their maps are kept in half precision and
the last blocks train on them with a new head. What comes out are the folded weights that
`models.onnx_graph.efficientnet_lite` takes, so the tuned network serves like the untuned one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.classifier import LayeredClassifier
from models.classifier_training import calibrated
from models.onnx_graph import strides
from models.training import History, Progress, Schedule, fit, silent

Labels = npt.NDArray[np.int64]
Maps = npt.NDArray[np.float16]


@dataclass(frozen=True)
class TuneSettings:
    """`first_block` is where training begins; its weights learn at `trunk_rate` of the head's."""

    first_block: int = 11
    batch: int = 32
    dropout: float = 0.3
    label_smoothing: float = 0.1
    trunk_rate: float = 0.2
    scale: float = 30.0


class Convolution(nn.Module):
    """A folded convolution with the padding that TensorFlow calls `SAME`."""

    def __init__(
        self, weight: npt.NDArray[Any], bias: npt.NDArray[Any], stride: int, groups: int
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float32))
        self.stride = stride
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, out, rows, columns) of (n, in, rows * stride, columns * stride)."""
        kernel = self.weight.shape[-1]
        pads: list[int] = []
        for side in (x.shape[-1], x.shape[-2]):
            short = max((-(-side // self.stride) - 1) * self.stride + kernel - side, 0)
            pads += [short // 2, short - short // 2]
        x = functional.pad(x, pads) if any(pads) else x
        return functional.conv2d(x, self.weight, self.bias, stride=self.stride, groups=self.groups)


class Block(nn.Module):
    """One inverted residual block: widen, convolve each channel, narrow, add."""

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]], number: int, stride: int) -> None:
        super().__init__()
        name = f"_blocks.{number}"

        def convolution(part: str, step: int = 1, depthwise: bool = False) -> Convolution:
            kernel = weights[f"{name}.{part}.weight"]
            groups = len(kernel) if depthwise else 1
            return Convolution(kernel, weights[f"{name}.{part}.bias"], step, groups)

        self._expand_conv = convolution("_expand_conv")
        self._depthwise_conv = convolution("_depthwise_conv", stride, depthwise=True)
        self._project_conv = convolution("_project_conv")
        self.adds = (
            stride == 1 and len(self._project_conv.weight) == self._expand_conv.weight.shape[1]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        y = functional.relu6(self._expand_conv(x))
        y = functional.relu6(self._depthwise_conv(y))
        y = self._project_conv(y)
        out: torch.Tensor = x + y if self.adds else y
        return out


class Tail(nn.Module):
    """The network's end: its last blocks and a linear head on unit features."""

    def __init__(
        self,
        weights: Mapping[str, npt.NDArray[Any]],
        repeats: Sequence[int],
        classes: int,
        settings: TuneSettings,
    ) -> None:
        super().__init__()
        steps = strides(repeats)
        self._blocks = nn.ModuleDict(
            {str(n): Block(weights, n, steps[n]) for n in range(settings.first_block, len(steps))}
        )
        self._conv_head = Convolution(
            weights["_conv_head.weight"], weights["_conv_head.bias"], 1, 1
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(len(weights["_conv_head.weight"]), classes)
        self.scale = settings.scale

    def features(self, maps: torch.Tensor) -> torch.Tensor:
        """Global features (n, 1280) of the maps that enter the first block here."""
        for block in self._blocks.values():
            maps = block(maps)
        pooled: torch.Tensor = functional.relu6(self._conv_head(maps)).mean(dim=(2, 3))
        return pooled

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Scores (n, classes) of features (n, 1280) of any length."""
        unit = self.scale * functional.normalize(features, dim=1)
        scores: torch.Tensor = self.head(self.dropout(unit))
        return scores

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Scores (n, classes) of maps."""
        return self.classify(self.features(maps))


def tune(
    weights: Mapping[str, npt.NDArray[Any]],
    repeats: Sequence[int],
    train: Maps,
    train_labels: Labels,
    validation: Maps,
    validation_labels: Labels,
    classes: Sequence[str],
    settings: TuneSettings,
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, npt.NDArray[Any]], LayeredClassifier, History]:
    """The network's weights, its end tuned, and the linear head that goes with them.

    `weights` are folded; `train` holds the maps that enter the first trained block (photos,
    views, channels, rows, columns), `validation` those of the photos as they are.
    """
    torch.manual_seed(schedule.seed)
    network = Tail(weights, repeats, len(classes), settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batches(generator: np.random.Generator) -> Iterator[tuple[Labels, Labels]]:
        order = generator.permutation(len(train))
        for start in range(0, len(order), settings.batch):
            rows = np.sort(order[start : start + settings.batch])
            yield rows, generator.integers(0, train.shape[1], len(rows))

    def loss(batch: tuple[Labels, Labels]) -> torch.Tensor:
        rows, views = batch
        targets = torch.tensor(train_labels[rows])
        scores = network(_tensor(train[rows, views]))
        return functional.cross_entropy(scores, targets, label_smoothing=settings.label_smoothing)

    def validation_features() -> torch.Tensor:
        parts = range(0, len(validation), 64)
        return torch.cat([network.features(_tensor(validation[i : i + 64])) for i in parts])

    def score() -> float:
        scores = network.classify(validation_features())
        labels = torch.tensor(validation_labels)
        right = (scores.argmax(dim=1) == labels).double().mean()
        return float(right) - 1e-3 * float(functional.cross_entropy(scores, labels))

    rates = {"_blocks": settings.trunk_rate, "_conv_head": settings.trunk_rate}
    history = fit(network, batches, loss, score, schedule, checkpoint, progress, rates)
    with torch.no_grad():
        features = validation_features().numpy()
    tuned = dict(weights)
    for name, value in network.state_dict().items():
        if name.startswith("_"):
            tuned[name] = value.contiguous().numpy()
    head = LayeredClassifier(
        tuple(classes),
        1.0,
        0.0,
        1.0,
        [settings.scale * network.head.weight.detach().numpy().T.copy()],
        [network.head.bias.detach().numpy().copy()],
    )
    return tuned, calibrated(head, features, validation_labels), history


def _tensor(maps: Maps) -> torch.Tensor:
    return torch.tensor(np.asarray(maps)).float().contiguous(memory_format=torch.channels_last)
