"""The ranker: scores candidates by their features, and learns from what users then chose.

A line, which few lists can teach (`models.logit`), and small networks that learn what it leaves: a
straight term plus two hidden layers of leaky ReLUs, on features in running standard units. Loss:
softmax over the list against the chosen ones (ListNet, Cao et al. 2007), a list with more of them
counting more, but less than their number. The networks: AdamW (Loshchilov and Hutter 2019), a step
every few lists and more on lists of a bounded replay buffer; each speaks by the running mean of its
weights (Polyak and Juditsky 1992), and several that began and replayed differently by their mean
(Lakshminarayanan et al. 2017). While the line alone has been better of late, it scores alone. Needs
numpy and numba alone; nothing it returns is ever NaN.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import listwise, logit
from models.base import Scores

WARM_STEPS = 20  # steps over which the pace rises from nothing
AVERAGE = 0.01  # weight of the newest weights in their running mean
LATE_RATE = 0.005  # weight of the newest list in how good each was of late
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
        prior_precision: how sure the line is of its weights before any list, as their precision.
        line_forget: share of how sure it is that each list takes away.
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
    prior_precision: float = 300.0
    line_forget: float = 1e-4
    seed: int = 1


class Ranker:
    """Scores rows of features; learns from lists whose answer is known.

    Args:
        prior: what each feature counts before any list, in standard units; else the first alone.
        sources: the features that are single sources' shares.

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
            # The last layer starts at zero: before it has learned, the line alone ranks.
        self.average = self.params.copy()
        self._averaged = [self._views(average) for average in self.average]
        self._slopes = self._views(np.zeros(size, np.float32))
        self.moments = np.zeros((networks, 2, size), np.float32)
        self.centre = np.zeros(n_features, np.float64)
        self.spread = np.ones(n_features, np.float64)
        self._shift, self._scale = self._units()
        self.line = np.eye(1, n_features)[0] if prior is None else prior.astype(np.float64)
        self.precision = np.eye(n_features) * self.config.prior_precision
        # NDCG@10 of late: with the networks, of the line alone, of each source alone.
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
        networks = self.average[:0] if self.line_leads else self.average
        return self._forward(features, starts, networks)

    @property
    def line_leads(self) -> bool:
        """Whether the line alone has been better of late, or nothing was learned."""
        return bool(self.late[0] <= self.late[1])

    def _forward(
        self, features: NDArray[np.float32], starts: NDArray[np.int64],
        networks: NDArray[np.float32],
    ) -> Scores:  # fmt: skip
        out = np.zeros(len(features), np.float32)
        if len(features):
            listwise.forward_of_all(
                features.astype(np.float32, copy=False), starts, self._shift, self._scale,
                self.line.astype(np.float32), networks, self.config.hidden, out,
            )  # fmt: skip
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
        self._judge(kept[:count], answers)
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

    def _judge(self, features: NDArray[np.float32], answers: int) -> None:
        """Score a list each way before it is learned; its answers lead it."""
        rate = max(1.0 / (self.lists + 1.0), LATE_RATE)
        starts = np.array([0, len(features)])
        scores = self._forward(features, starts, self.average)
        of_line = self._forward(features, starts, self.average[:0])
        first = self.sources.start or 0
        listwise.judge(scores, of_line, features, first, answers, rate, self.late)

    def _learn_line(self, features: NDArray[np.float32], answers: int) -> None:
        x = np.empty(features.shape, np.float32)
        listwise.normal(features, self._shift, self._scale, x)
        config = self.config
        if not logit.learn_list(
            x.astype(np.float64), answers, answers**config.answer_power, config.line_forget,
            config.prior_precision, self.line, self.precision,
        ):  # fmt: skip
            self.counters[2] += 1

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
            x, self._answers[lists], starts, self.line.astype(np.float32),
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
        both = self.line + straight, self.line + np.mean(slopes, axis=0)
        return both[0].astype(np.float32), both[1].astype(np.float32)

    # -- state -----------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, as copies; the replay buffer is left out."""
        return {name: getattr(self, name).copy() for name in _STATE}

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave. Raises ValueError where it is of another size."""
        for name in _STATE:
            if arrays[name].shape != getattr(self, name).shape:
                raise ValueError(f"a ranker of another size: {name}")
        for name in _STATE:
            getattr(self, name)[...] = arrays[name]
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


_STATE = (
    "params", "average", "moments", "line", "precision", "centre", "spread", "late", "counters",
)  # fmt: skip


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
