"""The ranker: scores candidates by their features, and learns from what users then chose.

Small networks do, a straight term plus two hidden layers of leaky ReLUs; and while they are young a
line, a logit over the features, which few lists can teach (`models.logit`). How loud each of them
is then, a logit over their two scores learns, made before their list was learned (stacking, Wolpert
1992). Features are in running standard units. Loss: softmax over the list against the chosen ones
(ListNet, Cao et al. 2007), a list with more of them counting more, but less than their number. The
networks: AdamW (Loshchilov and Hutter 2019), a step every few lists and more on lists of a bounded
replay buffer; each scores by the running mean of its weights (Polyak and Juditsky 1992), and a few
that began and replayed differently by their mean (Lakshminarayanan et al. 2017). Needs numpy and
numba alone; nothing it returns is ever NaN.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import listwise
from models.base import Scores
from models.logit import Logit

WARM_STEPS = 20  # steps over which the pace rises from nothing
AVERAGE = 0.01  # weight of the newest weights in their running mean
LATE_RATE = 0.005  # weight of the newest list in how good each was of late
ASTRAY = 1.1  # so much better the line must be of late to score alone, once the networks are grown
FORGET = 1e-4  # how fast means and variances of features follow, once enough lists are seen


@dataclass(frozen=True)
class RankerConfig:
    """Size and pace of the ranker.

    Args:
        networks: how many of them.
        hidden: units of each of the two hidden layers.
        learning_rate: pace of the first steps.
        learning_rate_min: pace in the long run, so that it never stops following the users.
        pace_steps: after so many steps the pace is half way between the two.
        answer_power: a list with n chosen counts n to this power.
        batch_lists: lists a step.
        replay_steps: steps on earlier lists after each step on new ones.
        replay_lists: lists kept for that.
        list_size_max: candidates of a list that are kept: the chosen, then the first others.
        prior_weight: what the first feature, the sources' mean, counts in untaught networks.
        line_lists: after so many lists the networks score alone; till then ever less of the line.
        line_precision: how sure the line is of its weights before any list.
        line_forget: share of how sure it is that each list takes away again.
        voices_precision, voices_forget: the same of how loud line and networks are.
    """

    networks: int = 4
    hidden: int = 32
    learning_rate: float = 3e-3
    learning_rate_min: float = 1e-3
    pace_steps: float = 3_000.0
    weight_decay: float = 0.01
    answer_power: float = 0.75
    batch_lists: int = 4
    replay_steps: int = 2
    replay_lists: int = 4_096
    list_size_max: int = 80
    prior_weight: float = 1.0
    line_lists: int = 3_000
    line_precision: float = 300.0
    line_forget: float = 1e-4
    voices_precision: float = 30.0
    voices_forget: float = 1e-3
    seed: int = 1


class Ranker:
    """Scores rows of features; learns from lists whose answer is known.

    Args:
        sources: the features that are single sources' shares.
        prior: what each feature counts before any list, in standard units; else the first alone.

    >>> ranker = Ranker(2, RankerConfig(batch_lists=1, learning_rate=0.05))
    >>> features = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    >>> for _ in range(50):
    ...     ranker.learn(features, np.array([1]))
    >>> bool(np.argmax(ranker.scores(features)) == 1)
    True
    """

    def __init__(
        self,
        n_features: int,
        config: RankerConfig | None = None,
        sources: slice = slice(0),
        prior: NDArray[np.float64] | None = None,
    ) -> None:
        self.sources = sources
        self.config = config or RankerConfig()
        self.n_features = n_features
        hidden, networks = self.config.hidden, self.config.networks
        shapes = _Layers.shapes(n_features, hidden)
        size = sum(int(np.prod(shape)) for shape in shapes)
        self.params = np.zeros((networks, size), np.float32)
        self._layers = [self._views(params) for params in self.params]
        for number, layers in enumerate(self._layers):
            rng = np.random.default_rng(self.config.seed + number)
            layers.first[:] = rng.normal(0, np.sqrt(2 / n_features), layers.first.shape)
            layers.second[:] = rng.normal(0, np.sqrt(2 / hidden), layers.second.shape)
            # The last layer starts at zero: before it has learned, the first feature ranks.
            layers.straight[0] = self.config.prior_weight
        self.average = self.params.copy()
        self._averaged = [self._views(average) for average in self.average]
        self._slopes = self._views(np.zeros(size, np.float32))
        self.moments = np.zeros((networks, 2, size), np.float32)
        self.centre = np.zeros(n_features, np.float64)
        self.spread = np.ones(n_features, np.float64)
        self._shift, self._scale = self._units()
        weights = np.eye(n_features)[0] if prior is None else prior
        self.line = Logit(weights, self.config.line_precision, self.config.line_forget)
        loud = np.array([1.0, 0.0])  # the line, the networks
        self.voices = Logit(loud, self.config.voices_precision, self.config.voices_forget)
        # NDCG@10 of late: of the networks alone, of the line, of each source.
        self.late = np.zeros(2 + len(range(n_features)[sources]), np.float64)
        self.counters = np.zeros(4, np.int64)  # steps, lists seen, steps refused, lists missed
        room = self.config.replay_lists
        # Lists of the replay buffer, the chosen candidates first.
        self._features = np.zeros((room, self.config.list_size_max, n_features), np.float32)
        self._answers = np.zeros(room, np.int64)
        self._lengths = np.zeros(room, np.int64)
        self._pending = 0
        self._open = False
        self._before: dict[str, NDArray[Any]] | None = None
        self._pending_before = 0

    @property
    def steps(self) -> int:
        """Steps taken."""
        return int(self.counters[0])

    @property
    def lists(self) -> int:
        """Lists learned from."""
        return int(self.counters[1])

    @property
    def looks(self) -> int:
        """Lists shown to it, those without the answer among their candidates too."""
        return int(self.counters[1] + self.counters[3])

    def scores(self, features: NDArray[np.float32]) -> Scores:
        """Scores of candidates, shape (c,), from features of shape (c, n_features)."""
        return self.scores_of_all(features, np.array([0, len(features)]))

    def scores_of_all(self, features: NDArray[np.float32], starts: NDArray[np.int64]) -> Scores:
        """`scores` of several lists, whose candidates are [starts[i], starts[i + 1]).

        Each is scored by itself: which others there are changes nothing.
        """
        features, out = features.astype(np.float32, copy=False), np.zeros(len(features), np.float32)
        line, networks = self.loud
        if networks:
            out += np.float32(networks) * self._by_networks(features, starts)
        if line:
            out += np.float32(line) * self.line_scores(features)
        return out

    @property
    def loud(self) -> tuple[float, float]:
        """What the scores of the line and of the networks count now."""
        grown = self.lists / self.config.line_lists
        if grown >= 1.0:
            return (1.0, 0.0) if self.late[1] > ASTRAY * self.late[0] else (0.0, 1.0)
        line, networks = (1.0 - grown) * self.voices.weights
        return float(line), float(networks + grown)

    def line_scores(self, features: NDArray[np.float32]) -> Scores:
        """What the line alone says."""
        out, line = np.empty(len(features), np.float32), self.line.weights.astype(np.float32)
        listwise.line_scores(features, self._shift, self._scale, line, out)
        return out

    def _by_networks(self, features: NDArray[np.float32], starts: NDArray[np.int64]) -> Scores:
        out = np.zeros(len(features), np.float32)
        listwise.forward_of_all(
            features, starts, self._shift, self._scale, self.average, self.config.hidden, out
        )
        return out

    def learn(self, features: NDArray[Any], chosen: NDArray[Any]) -> None:
        """Learn one list: its candidates' features, and the rows that the user chose.

        Lists of another width are let be, and so is what is not finite; a list without a chosen
        row is counted.
        """
        if features.shape[1] != self.n_features:
            return
        mask = np.zeros(len(features), np.bool_)
        mask[chosen[(chosen >= 0) & (chosen < len(features))]] = True
        at = self.lists % self.config.replay_lists
        kept = self._features[at]
        count, answers = listwise.keep(features.astype(np.float32, copy=False), mask, kept)
        self._keep_before()
        if not answers:
            self.counters[3] += 1
            return
        self._answers[at], self._lengths[at] = answers, count
        self._learn_voices(kept[:count], answers)
        rate = max(1.0 / (self.lists + 1.0), FORGET)
        listwise.standardise(kept[:count], rate, self.centre, self.spread)
        self._shift, self._scale = self._units()
        self._learn_line(kept[:count], answers)
        self.counters[1] += 1
        self._pending += 1
        if self._pending >= self.config.batch_lists:
            newest = (self.lists - 1 - np.arange(self._pending)) % self.config.replay_lists
            self._pending = 0
            networks = self.config.networks
            self._step(np.tile(newest, (networks, 1)))
            held = min(self.lists, self.config.replay_lists)
            for _ in range(self.config.replay_steps):
                lists = np.empty((networks, self.config.batch_lists), np.int64)
                listwise.draw(self.config.seed, self.steps, held, lists)
                self._step(lists)

    def _learn_voices(self, features: NDArray[np.float32], answers: int) -> None:
        """Compare line and networks on a list that neither has learned; its answers lead it."""
        line = self.line_scores(features)
        networks = self._by_networks(features, np.array([0, len(features)]))
        rate, first = max(1.0 / (self.lists + 1.0), LATE_RATE), self.sources.start or 0
        listwise.judge(networks, line, features, first, answers, rate, self.late)
        if self.lists < self.config.line_lists:
            both = np.stack([line, networks], axis=1).astype(np.float64)
            self.counters[2] += not self.voices.learn(both, answers, self._loudness(answers))

    def _loudness(self, answers: int) -> float:
        return float(answers**self.config.answer_power)

    def _learn_line(self, features: NDArray[np.float32], answers: int) -> None:
        x = np.empty(features.shape, np.float32)
        listwise.normal(features, self._shift, self._scale, x)
        loud = self._loudness(answers)
        self.counters[2] += not self.line.learn(x.astype(np.float64), answers, loud)

    def _units(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean of each feature, and one over its standard deviation."""
        scale = 1.0 / np.sqrt(self.spread + 1e-6)
        return self.centre.astype(np.float32), scale.astype(np.float32)

    def _step(self, lists: NDArray[np.int64]) -> None:
        """One step of AdamW on the mean loss of some lists of the buffer, a row a network."""
        self.counters[0] += 1
        for number, own in enumerate(lists):
            if not listwise.adamw(
                self._gradient(own, number), self.params[number], self.moments[number, 0],
                self.moments[number, 1], self.average[number], self.steps, self._pace(),
                self.config.weight_decay, max(AVERAGE, 1.0 / (self.steps + 1.0)),
            ):  # fmt: skip
                self.counters[2] += 1

    def _pace(self) -> float:
        config = self.config
        spread = config.learning_rate - config.learning_rate_min
        pace = config.learning_rate_min + spread / (1.0 + self.steps / config.pace_steps)
        return pace * min(1.0, self.steps / WARM_STEPS)

    def _gradient(self, lists: NDArray[np.int64], network: int = 0) -> NDArray[np.float32]:
        """Gradient of the lists' mean softmax loss, as a network's parameters; till the next."""
        lengths = self._lengths[lists]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        x = np.empty((starts[-1], self.n_features), np.float32)
        listwise.gather(self._features, lists, starts, self._shift, self._scale, x)
        layers, out = self._layers[network], self._slopes
        out.flat[:] = 0.0
        listwise.backward(
            x, self._answers[lists], starts,
            layers.first, layers.first_bias, layers.second, layers.second_bias, layers.last,
            layers.bias, layers.straight, self.config.answer_power,
            out.first, out.first_bias, out.second, out.second_bias, out.last, out.bias,
            out.straight,
        )  # fmt: skip
        return out.flat

    def _views(self, flat: NDArray[np.float32]) -> "_Layers":
        return _Layers.of(flat, self.n_features, self.config.hidden)

    def weights_by_feature(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How each feature moves a score, shapes (n_features,): straight, and where all are mean.

        In standard units, so that features may be compared. The second is the slope of the whole
        network at the mean candidate, the straight weight included.
        """
        slopes = []
        for layers in self._averaged:
            one = layers.first_bias
            two = np.where(one > 0, one, listwise.LEAK * one) @ layers.second + layers.second_bias
            back = np.where(two > 0, 1.0, listwise.LEAK) * layers.last
            back = (layers.second @ back) * np.where(one > 0, 1.0, listwise.LEAK)
            slopes.append(layers.straight + layers.first @ back)
        straight = np.mean([layers.straight for layers in self._averaged], axis=0)
        line, networks = self.loud
        of_line, slope = line * self.line.weights, np.mean(slopes, axis=0)
        straight, slope = of_line + networks * straight, of_line + networks * slope
        return straight.astype(np.float32), slope.astype(np.float32)

    # -- state -----------------------------------------------------------------------------------

    def _state(self) -> dict[str, NDArray[Any]]:
        return {
            "params": self.params, "average": self.average, "moments": self.moments,
            "line": self.line.weights, "line_precision": self.line.precision,
            "voices": self.voices.weights, "voices_precision": self.voices.precision,
            "centre": self.centre, "spread": self.spread, "late": self.late,
            "counters": self.counters,
        }  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, as copies; the replay buffer is left out."""
        return {name: array.copy() for name, array in self._state().items()}

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave. Raises ValueError where it is of another size."""
        state = self._state()
        for name, array in state.items():
            if arrays[name].shape != array.shape:
                raise ValueError(f"a ranker of another size: {name}")
        for name, array in state.items():
            array[...] = arrays[name]
        self._shift, self._scale = self._units()

    def pack(self) -> bytes:
        """What was learned, little-endian, in a fixed order."""
        return b"".join(
            array.astype(array.dtype.newbyteorder("<")).tobytes()
            for array in self.arrays().values()
        )

    def unpack(self, packed: bytes) -> bool:
        """Take back what `pack` gave; False, and nothing changes, where it is of another size."""
        arrays, start = self.arrays(), 0
        for name, array in arrays.items():
            part = packed[start : start + array.nbytes]
            if len(part) != array.nbytes:
                return False
            arrays[name] = np.frombuffer(part, array.dtype).reshape(array.shape)
            start += array.nbytes
        if start != len(packed):
            return False
        self.load(arrays)
        return True

    @property
    def changed(self) -> bool:
        """Whether the open transaction learned anything."""
        return self._before is not None

    def begin(self) -> None:
        """Open a transaction."""
        self._open, self._before, self._pending_before = True, None, self._pending

    def commit(self) -> None:
        """Keep what was learned."""
        self._open, self._before = False, None

    def rollback(self) -> None:
        """Put back the weights as they were at `begin`; lists of the buffer may stay."""
        if self._before is not None:
            self.load(self._before)
        self._pending = self._pending_before
        self._open, self._before = False, None

    def _keep_before(self) -> None:
        if self._open and self._before is None:
            self._before = self.arrays()


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
