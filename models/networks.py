"""Small networks that score candidates of lists, and learn by gradients: the ranker's, once grown.

A straight term plus two hidden layers of leaky ReLUs. Loss: softmax over the list against the
chosen ones (ListNet, Cao et al. 2007), a list with more of them counting more, but less than their
number. AdamW (Loshchilov and Hutter 2019); each scores by the running mean of its weights (Polyak
and Juditsky 1992), and a few that began and learned differently by their mean (Lakshminarayanan et
al. 2017).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import listwise
from models.base import Scores

WARM_STEPS = 20  # steps over which the pace rises from nothing
AVERAGE = 0.01  # weight of the newest weights in their running mean


@dataclass(frozen=True)
class NetworksConfig:
    """Size and pace of the networks.

    Args:
        networks: how many of them.
        hidden: units of each of the two hidden layers.
        learning_rate: pace of the first steps.
        learning_rate_min: pace in the long run, so that it never stops following the users.
        pace_steps: after so many steps the pace is half way between the two.
        answer_power: a list with n chosen counts n to this power.
        prior_weight: what the first feature, the sources' mean, counts in untaught networks.
    """

    networks: int = 4
    hidden: int = 32
    learning_rate: float = 3e-3
    learning_rate_min: float = 1e-3
    pace_steps: float = 3_000.0
    weight_decay: float = 0.01
    answer_power: float = 0.75
    prior_weight: float = 1.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists to learn from, one below the other, in the networks' units.

    Args:
        x: candidates' features, shape (rows, d); list i's are x[starts[i] : starts[i + 1]].
        answers: how many of each list's first candidates were chosen, shape (lists,).
        starts: where each list begins, and where the last one ends, shape (lists + 1,).
        stand_for: logarithm of how many candidates each of list i's others stands for, where they
            are a sample (sampled softmax, Jean et al. 2015); shape (lists,).
    """

    x: NDArray[np.float32]
    answers: NDArray[np.int64]
    starts: NDArray[np.int64]
    stand_for: NDArray[np.float32]


class Networks:
    """Networks of one shape over d features, a row of parameters each.

    What they are given is in units that are theirs to shift and scale: (x - shift) * scale.

    >>> networks = Networks(2, NetworksConfig(learning_rate=0.05))
    >>> x, starts = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([0, 2])
    >>> first_chosen = Lists(x, np.array([1]), starts, np.zeros(1, np.float32))
    >>> for steps in range(50):
    ...     taken = networks.step(0, first_chosen, steps + 1)
    >>> scores = networks.scores(x, starts, np.zeros(2, np.float32), np.ones(2, np.float32))
    >>> bool(scores[0] > scores[1])
    True
    """

    def __init__(self, n_features: int, config: NetworksConfig) -> None:
        self.config = config
        self.n_features = n_features
        hidden = config.hidden
        size = sum(int(np.prod(shape)) for shape in _Layers.shapes(n_features, hidden))
        self.params = np.zeros((config.networks, size), np.float32)
        self.layers = [self._views(params) for params in self.params]
        for number, layers in enumerate(self.layers):
            rng = np.random.default_rng(config.seed + number)
            layers.first[:] = rng.normal(0, np.sqrt(2 / n_features), layers.first.shape)
            layers.second[:] = rng.normal(0, np.sqrt(2 / hidden), layers.second.shape)
            # The last layer starts at zero: before it has learned, the first feature ranks.
            layers.straight[0] = config.prior_weight
        self.average = self.params.copy()
        self._averaged = [self._views(average) for average in self.average]
        self._slopes = self._views(np.zeros(size, np.float32))
        self.moments = np.zeros((config.networks, 2, size), np.float32)

    def scores(
        self,
        features: NDArray[np.float32],
        starts: NDArray[np.int64],
        shift: NDArray[np.float32],
        scale: NDArray[np.float32],
    ) -> Scores:
        """Their mean score of several lists' candidates, each list by itself."""
        out = np.zeros(len(features), np.float32)
        listwise.forward_of_all(
            features, starts, shift, scale, self.average, self.config.hidden, out
        )
        return out

    def step(self, number: int, lists: Lists, steps: int) -> bool:
        """The `steps`-th step, of one network, on the mean loss of lists.

        False, and nothing moves, where the step would break the weights.
        """
        return bool(listwise.adamw(
            self.gradient(number, lists), self.params[number], self.moments[number, 0],
            self.moments[number, 1], self.average[number], steps, self._pace(steps),
            self.config.weight_decay, max(AVERAGE, 1.0 / (steps + 1.0)),
        ))  # fmt: skip

    def _pace(self, steps: int) -> float:
        config = self.config
        spread = config.learning_rate - config.learning_rate_min
        pace = config.learning_rate_min + spread / (1.0 + steps / config.pace_steps)
        return pace * min(1.0, steps / WARM_STEPS)

    def gradient(self, number: int, lists: Lists) -> NDArray[np.float32]:
        """Gradient of the mean loss, as one network's parameters; till the next is asked for."""
        layers, out = self.layers[number], self._slopes
        out.flat[:] = 0.0
        listwise.backward(
            lists.x, lists.answers, lists.starts, lists.stand_for,
            layers.first, layers.first_bias, layers.second, layers.second_bias, layers.last,
            layers.bias, layers.straight, self.config.answer_power,
            out.first, out.first_bias, out.second, out.second_bias, out.last, out.bias,
            out.straight,
        )  # fmt: skip
        return out.flat

    def weights_by_feature(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How each feature moves their score, shapes (d,): straight, and where all are mean.

        The second is the slope at the mean candidate, the straight weight included.
        """
        slopes = []
        for layers in self._averaged:
            one = layers.first_bias
            two = np.where(one > 0, one, listwise.LEAK * one) @ layers.second + layers.second_bias
            back = np.where(two > 0, 1.0, listwise.LEAK) * layers.last
            back = (layers.second @ back) * np.where(one > 0, 1.0, listwise.LEAK)
            slopes.append(layers.straight + layers.first @ back)
        straight = np.mean([layers.straight for layers in self._averaged], axis=0)
        return straight, np.mean(slopes, axis=0)

    def _views(self, flat: NDArray[np.float32]) -> "_Layers":
        return _Layers.of(flat, self.n_features, self.config.hidden)


@dataclass(frozen=True, slots=True)
class _Layers:
    """The parameters by name: views into one flat array."""

    flat: NDArray[np.float32]
    first: NDArray[np.float32]  # (features, hidden)
    first_bias: NDArray[np.float32]  # (hidden,)
    second: NDArray[np.float32]  # (hidden, hidden)
    second_bias: NDArray[np.float32]  # (hidden,)
    last: NDArray[np.float32]  # (hidden,)
    bias: NDArray[np.float32]  # (1,)
    straight: NDArray[np.float32]  # (features,)

    @staticmethod
    def shapes(d: int, h: int) -> tuple[tuple[int, ...], ...]:
        return ((d, h), (h,), (h, h), (h,), (h,), (1,), (d,))

    @classmethod
    def of(cls, flat: NDArray[np.float32], d: int, h: int) -> "_Layers":
        views, start = [], 0
        for shape in cls.shapes(d, h):
            stop = start + int(np.prod(shape))
            views.append(flat[start:stop].reshape(shape))
            start = stop
        return cls(flat, *views)
