"""One training loop for every network here: resumes exactly, stops early, keeps the best.

Each epoch draws its order and its random numbers from the seed and its own number, so that a run
that was interrupted goes on, from the checkpoint of its last whole epoch, as if it had not been.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

Batches = Callable[[np.random.Generator], Iterator[Any]]
Loss = Callable[[Any], torch.Tensor]
Progress = Callable[[int, float, float], None]  # epoch, mean loss, score


def silent(_epoch: int, _loss: float, _score: float) -> None:
    """For when nobody watches."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. The rate falls as a cosine after `warmup_epochs` of rising."""

    epochs: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_epochs: int = 1
    patience: int = 10
    clip_norm: float = 5.0
    seed: int = 0

    def rate(self, epoch: float) -> float:
        """Factor of the learning rate at an epoch, counted in fractions.

        >>> schedule = Schedule(epochs=11, warmup_epochs=1)
        >>> [round(schedule.rate(epoch), 2) for epoch in (0.5, 1, 6, 11)]
        [0.5, 1.0, 0.5, 0.0]
        """
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        span = max(1, self.epochs - self.warmup_epochs)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - self.warmup_epochs) / span)))


@dataclass
class History:
    """One entry an epoch; `best_epoch` counts from 0. `score` is the larger the better.

    `seconds` went by in each epoch and `cpu_seconds` were worked in it; of the epochs, `resumed`
    are of earlier runs.
    """

    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False
    seconds: list[float] = field(default_factory=list, compare=False)
    cpu_seconds: list[float] = field(default_factory=list, compare=False)
    resumed: int = field(default=0, compare=False)

    @property
    def best_score(self) -> float:
        """The score of the weights that are kept."""
        return self.score[self.best_epoch]


def fit(
    network: nn.Module,
    batches: Batches,
    loss: Loss,
    score: Callable[[], float],
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    rates: Mapping[str, float] | None = None,
) -> History:
    """Trains the network and leaves it with its best weights, in evaluation mode.

    `batches(generator)` gives one epoch's batches, `loss(batch)` a scalar and `score()` the
    validation score. Biases and other vectors are not decayed. `rates` are factors of the
    learning rate for parameters whose names begin so. With a `checkpoint` the run is saved after
    every epoch and taken up again from there; a checkpoint of another schedule is refused.
    """
    optimiser = torch.optim.AdamW(_groups(network, schedule, rates or {}))
    history = History()
    best: dict[str, torch.Tensor] = {}
    if checkpoint is not None and checkpoint.exists():
        best = _resume(checkpoint, network, optimiser, history, schedule)
    for epoch in range(len(history.loss), schedule.epochs):
        if history.stopped_early:
            break
        begun, cpu_begun = time.monotonic(), time.process_time()
        mean_loss = _epoch(network, batches, loss, optimiser, schedule, epoch)
        network.eval()
        with torch.no_grad():
            history.score.append(score())
        history.loss.append(mean_loss)
        history.learning_rate.append(schedule.learning_rate * schedule.rate(epoch + 1))
        if history.best_epoch < 0 or history.score[-1] > history.best_score:
            history.best_epoch = epoch
            best = {name: value.detach().clone() for name, value in network.state_dict().items()}
        history.stopped_early = epoch - history.best_epoch >= schedule.patience
        history.seconds.append(round(time.monotonic() - begun, 2))
        history.cpu_seconds.append(round(time.process_time() - cpu_begun, 2))
        progress(epoch, mean_loss, history.score[-1])
        if checkpoint is not None:
            _save(checkpoint, network, optimiser, history, schedule, best)
    if best:
        network.load_state_dict(best)
    network.eval()
    return history


def _epoch(
    network: nn.Module,
    batches: Batches,
    loss: Loss,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    epoch: int,
) -> float:
    network.train()
    torch.manual_seed(schedule.seed * 1_000_003 + epoch)
    losses = []
    todo = list(batches(np.random.default_rng([schedule.seed, epoch])))
    for number, batch in enumerate(todo):
        factor = schedule.rate(epoch + (number + 1) / len(todo))
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * schedule.learning_rate * factor
        value = loss(batch)
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), schedule.clip_norm)
        optimiser.step()
        losses.append(float(value.detach()))
    return float(np.mean(losses))


def _groups(
    network: nn.Module, schedule: Schedule, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = schedule.weight_decay if parameter.dim() > 1 else 0.0
            rate = next((value for start, value in rates.items() if name.startswith(start)), 1.0)
            groups.setdefault((decay, rate), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "rate": rate, "lr": 0.0}
        for (decay, rate), parameters in groups.items()
    ]


def _save(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: History,
    schedule: Schedule,
    best: dict[str, torch.Tensor],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    state = {
        "schedule": asdict(schedule),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": asdict(history),
        "best": best,
    }
    torch.save(state, part)
    part.replace(path)


def _resume(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: History,
    schedule: Schedule,
) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)
    if state["schedule"] != asdict(schedule):
        raise ValueError(f"{path} is of a run with other settings: {state['schedule']}")
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for name, value in state["history"].items():
        setattr(history, name, value)
    history.resumed = len(history.loss)
    best: dict[str, torch.Tensor] = state["best"]
    return best
