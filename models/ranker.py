"""The ranker: scores candidates by their features, and learns from what users then chose.

Small networks do (`models.networks`); and while they are young a line, a logit over the features,
which few lists can teach (`models.logit`). How loud each of them is then, a logit over their two
scores learns, made before their list was learned (stacking, Wolpert 1992). Features are in running
standard units. The networks take a step every few lists, and more on lists of a bounded replay
buffer. Needs numpy and numba alone; nothing it returns is ever NaN.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import listwise
from models.base import Scores
from models.logit import Logit
from models.networks import Lists, Networks, NetworksConfig

LATE_RATE = 0.005  # weight of the newest list in how good each was of late
ASTRAY = 1.1  # so much better the line must be of late to score alone, once the networks are grown
JUDGED_EVERY = 4  # once the networks are grown, one of so many lists judges both, teaches the line
FORGET = 1e-4  # how fast means and variances of features follow, once enough lists are seen


@dataclass(frozen=True)
class RankerConfig(NetworksConfig):
    """How the ranker learns, beside the size and pace of its networks.

    Args:
        batch_lists: lists a step.
        replay_steps: steps on earlier lists after each step on new ones.
        replay_lists: lists kept for that.
        list_size_max: candidates of a list that are kept: the chosen, then the first others.
        list_sample: of these a step looks at the chosen, and at others drawn anew each time, so
            many in all; at half as many others at least.
        line_lists: after so many lists the networks score alone; till then ever less of the line.
        line_precision: how sure the line is of its weights before any list.
        line_forget: share of how sure it is that each list takes away again.
        voices_precision, voices_forget: the same of how loud line and networks are.
    """

    batch_lists: int = 4
    replay_steps: int = 2
    replay_lists: int = 4_096
    list_size_max: int = 80
    list_sample: int = 32
    line_lists: int = 3_000
    line_precision: float = 300.0
    line_forget: float = 1e-4
    voices_precision: float = 30.0
    voices_forget: float = 1e-3


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
        self.networks = Networks(n_features, self.config)
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
        self._lists_before = 0  # those learned elsewhere are not in the buffer
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
            out += np.float32(networks) * self.network_scores(features, starts)
        if line:
            out += np.float32(line) * self.line_scores(features)
        return out

    @property
    def _young(self) -> bool:
        """Whether the line still has a say."""
        return self.lists < self.config.line_lists

    @property
    def loud(self) -> tuple[float, float]:
        """What the scores of the line and of the networks count now."""
        grown = self.lists / self.config.line_lists
        if not self._young:
            return (1.0, 0.0) if self.late[1] > ASTRAY * self.late[0] else (0.0, 1.0)
        line, networks = (1.0 - grown) * self.voices.weights
        return float(line), float(networks + grown)

    def line_scores(self, features: NDArray[np.float32]) -> Scores:
        """What the line alone says."""
        out, line = np.empty(len(features), np.float32), self.line.weights.astype(np.float32)
        listwise.line_scores(features, self._shift, self._scale, line, out)
        return out

    def network_scores(self, features: NDArray[np.float32], starts: NDArray[np.int64]) -> Scores:
        """What the networks alone say."""
        return self.networks.scores(features, starts, self._shift, self._scale)

    def learn(self, features: NDArray[Any], chosen: NDArray[Any]) -> None:
        """Learn one list: its candidates' features, and the rows that the user chose.

        Lists of another width are let be, and so is what is not finite; a list without a chosen
        row is counted.
        """
        if features.shape[1] != self.n_features:
            return
        mask = np.zeros(len(features), np.bool_)
        mask[chosen[(chosen >= 0) & (chosen < len(features))]] = True
        self._keep_before()
        if not mask.any():
            self.counters[3] += 1
            return
        at = self.lists % self.config.replay_lists
        kept = self._features[at]
        count, answers = listwise.keep(features.astype(np.float32, copy=False), mask, kept)
        self._answers[at], self._lengths[at] = answers, count
        judged = self._young or self.lists % JUDGED_EVERY == 0
        if judged:
            self._learn_voices(kept[:count], answers)
        rate = max(1.0 / (self.lists + 1.0), FORGET)
        listwise.standardise(kept[:count], rate, self.centre, self.spread)
        self._shift, self._scale = self._units()
        if judged:
            self._learn_line(kept[:count], answers)
        self.counters[1] += 1
        self._pending += 1
        if self._pending >= self.config.batch_lists:
            newest = (self.lists - 1 - np.arange(self._pending)) % self.config.replay_lists
            self._pending = 0
            networks = self.config.networks
            self._step(np.tile(newest, (networks, 1)))
            first, held = self._held()
            for _ in range(self.config.replay_steps):
                lists = np.empty((networks, self.config.batch_lists), np.int64)
                listwise.draw(self.config.seed, self.steps, held, lists)
                self._step((first + lists) % self.config.replay_lists)

    def _held(self) -> tuple[int, int]:
        """Where the buffer's lists begin, and how many it has: those learned in this process."""
        held, room = self.lists - self._lists_before, self.config.replay_lists
        return (self._lists_before, held) if held < room else (0, room)

    def _learn_voices(self, features: NDArray[np.float32], answers: int) -> None:
        """Compare line and networks on a list that neither has learned; its answers lead it."""
        line = self.line_scores(features)
        networks = self.network_scores(features, np.array([0, len(features)]))
        late = LATE_RATE if self._young else LATE_RATE * JUDGED_EVERY
        rate, first = max(1.0 / (self.lists + 1.0), late), self.sources.start or 0
        listwise.judge(networks, line, features, first, answers, rate, self.late)
        if self._young:
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
        """One step on some lists of the buffer, a row a network."""
        self.counters[0] += 1
        for number, own in enumerate(lists):
            taken = self.networks.step(number, self._sample(number, own), self.steps)
            self.counters[2] += not taken

    def _sample(self, number: int, own: NDArray[np.int64]) -> Lists:
        """Lists of the buffer, some candidates of each, as one network will see them."""
        lengths, answers, room = self._lengths[own], self._answers[own], self.config.list_sample
        kept = np.minimum(lengths, np.maximum(answers + room // 2, room))
        starts = np.concatenate([[0], np.cumsum(kept)])
        x = np.empty((starts[-1], self.n_features), np.float32)
        stand_for = np.empty(len(own), np.float32)
        turn = self.steps * self.config.networks + number
        listwise.sample(
            self._features, own, lengths, answers, starts, self._shift, self._scale,
            self.config.seed, turn, x, stand_for,
        )  # fmt: skip
        return Lists(x, answers, starts, stand_for)

    def weights_by_feature(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How each feature moves a score, shapes (n_features,): straight, and where all are mean.

        In standard units, so that features may be compared. The second is the slope of the whole
        at the mean candidate, the straight weight included.
        """
        line, networks = self.loud
        of_line = line * self.line.weights
        straight, slope = (
            of_line + networks * of_networks for of_networks in self.networks.weights_by_feature()
        )
        return straight.astype(np.float32), slope.astype(np.float32)

    # -- state -----------------------------------------------------------------------------------

    def _state(self) -> dict[str, NDArray[Any]]:
        return {
            "params": self.networks.params, "average": self.networks.average,
            "moments": self.networks.moments,
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
        self._lists_before = self.lists
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
