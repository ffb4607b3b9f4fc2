"""Categories of a photo from its encoder's vector, with probabilities that can be believed.

Two kinds, both plain numpy when they serve: layers of weights (a linear head, or one with a
hidden layer) and a support vector machine with a Gaussian kernel. Training is in
`models.classifier_training`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.unit_rows import Vectors, unit_rows

UNKNOWN = "unknown"
Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Classifier(ABC):
    """`temperature` calibrates the scores; below `threshold` a photo's category is unknown.

    Vectors are raised to `power`, keeping their signs, and brought to length 1 again. A half tames
    the few features that are loud in any photo (Perronnin, Sanchez & Mensink 2010).
    """

    classes: Sequence[str]
    temperature: float
    threshold: float
    power: float

    @abstractmethod
    def scores(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """(n, classes) of prepared vectors (n, dim), before they are probabilities."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The weights, by name."""

    def probabilities(self, vectors: Vectors) -> npt.NDArray[np.float64]:
        """(n, classes), rows that sum to 1."""
        scores = self.scores(prepared(vectors, self.power)).astype(np.float64) / self.temperature
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def top(self, vectors: Vectors, k: int = 3) -> list[list[tuple[str, float]]]:
        """For each vector its k likeliest categories with their probabilities.

        Where the likeliest does not reach the threshold there is but one: `unknown`, with the
        probability that is left beside the likeliest.
        """
        if not len(vectors):
            return []
        answers = []
        for row in self.probabilities(vectors):
            best = np.argsort(-row, kind="stable")[:k]
            if row[best[0]] < self.threshold:
                answers.append([(UNKNOWN, float(1 - row[best[0]]))])
            else:
                answers.append([(self.classes[i], float(row[i])) for i in best])
        return answers


def prepared(vectors: npt.NDArray[np.floating], power: float) -> Vectors:
    """Rows raised to a power with their signs, of length 1.

    >>> prepared(np.array([[0.25, -0.0], [0.36, -0.64]]), 0.5).round(2).tolist()
    [[1.0, 0.0], [0.6000000238418579, -0.800000011920929]]
    """
    rows = unit_rows(vectors)
    return unit_rows(np.sign(rows) * np.abs(rows) ** power)


@dataclass(frozen=True)
class LayeredClassifier(Classifier):
    """ReLU layers and a linear one. `weights[i]` is (in, out), `biases[i]` (out,)."""

    weights: Sequence[Vectors] = field(default_factory=list)
    biases: Sequence[Vectors] = field(default_factory=list)

    def scores(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """See `Classifier.scores`."""
        x = vectors
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0)
        return np.asarray(x @ self.weights[-1] + self.biases[-1], np.float32)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """See `Classifier.arrays`."""
        named: dict[str, npt.NDArray[np.generic]] = {"power": np.array([self.power])}
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"layer{number}.weight": weight, f"layer{number}.bias": bias}
        return named


@dataclass(frozen=True)
class KernelClassifier(Classifier):
    """One against the rest, each by a machine with the kernel exp(-gamma |x - s|^2).

    `support` (m, dim) holds the photos that matter, `duals` (m, classes) their weights in each
    class's machine, `intercepts` is (classes,).
    """

    gamma: float = 1.0
    support: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    duals: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    intercepts: Vectors = field(default_factory=lambda: np.empty(0, np.float32))

    def scores(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """See `Classifier.scores`. Vectors and support are of length 1."""
        squares = 2 - 2 * (vectors @ self.support.T)
        return np.asarray(np.exp(-self.gamma * squares) @ self.duals + self.intercepts, np.float32)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """See `Classifier.arrays`."""
        return {
            "support": self.support.astype(np.float16),
            "duals": self.duals,
            "intercepts": self.intercepts,
            "gamma": np.array([self.gamma]),
            "power": np.array([self.power]),
        }


def from_arrays(
    arrays: Arrays, classes: Sequence[str], temperature: float, threshold: float
) -> Classifier:
    """The classifier of these `arrays`, of whichever kind they are.

    Raises `ValueError` for arrays of neither kind.
    """
    if "support" in arrays:
        # unit rows again, since half precision has cut them
        return KernelClassifier(
            classes,
            temperature,
            threshold,
            float(arrays["power"][0]),
            float(arrays["gamma"][0]),
            unit_rows(arrays["support"]),
            arrays["duals"].astype(np.float32),
            arrays["intercepts"].astype(np.float32),
        )
    count = sum(name.endswith(".weight") for name in arrays)
    if not count:
        raise ValueError(f"no weights of a classifier: {sorted(arrays)}")
    weights = [arrays[f"layer{n}.weight"].astype(np.float32) for n in range(count)]
    biases = [arrays[f"layer{n}.bias"].astype(np.float32) for n in range(count)]
    return LayeredClassifier(
        classes, temperature, threshold, float(arrays["power"][0]), weights, biases
    )
