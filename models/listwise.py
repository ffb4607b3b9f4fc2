"""The loops of the ranker: a network over lists, its softmax loss, AdamW, and lists in a buffer."""

from typing import Any

import numpy as np

from models.kernels import kernel
from models.top import select

CLIP = 5.0  # standard units
BOUND = np.float32(60_000.0)  # of what is kept of a feature
GRADIENT_NORM_MAX = 20.0
MOMENT_1, MOMENT_2, EPSILON = 0.9, 0.999, 1e-8
SHORTLIST = 64  # candidates that all networks score
LEAK = 0.01  # slope of a unit that is off
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # between two states of the random numbers


@kernel
def normal(features: Any, centre: Any, scale: Any, out: Any) -> None:
    """Features in running standard units, cut at +-CLIP; what is not finite counts as the mean."""
    for row in range(features.shape[0]):
        for i in range(features.shape[1]):
            z = (features[row, i] - centre[i]) * scale[i]
            z = min(max(z, np.float32(-CLIP)), np.float32(CLIP))
            out[row, i] = z if z == z else np.float32(0.0)  # NaN is not itself


@kernel
def keep(features: Any, chosen: Any, kept: Any) -> tuple[int, int]:
    """Copy a list into the buffer, the chosen rows first; how many rows, and how many chosen."""
    count, answers = 0, 0
    for turn in range(2):
        for row in range(len(features)):
            if chosen[row] == (turn == 0) and count < len(kept):
                for f in range(features.shape[1]):
                    value = features[row, f]
                    finite = -np.inf < value < np.inf
                    kept[count, f] = min(max(value, -BOUND), BOUND) if finite else np.float32(0.0)
                count += 1
        if turn == 0:
            answers = count
    return count, answers


@kernel
def gain(scores: Any, answers: int, zero_counts: bool) -> float:
    """NDCG@10 share of a list's answers, its first rows, where the list is ordered by scores."""
    gain = 0.0
    for row in range(answers):
        score = scores[row]
        if not (zero_counts or score > 0.0):
            continue
        above = 0
        for other in range(len(scores)):
            above += scores[other] > score or (scores[other] == score and other > row)
        if above < 10:
            gain += 1.0 / np.log2(above + 2.0) / answers
    return gain


@kernel
def judge(
    networks: Any, line: Any, features: Any, first: int, answers: int, rate: float, late: Any
) -> None:
    """Move running gains towards those on this list: of both scores, and of each source.

    Sources' shares are columns of the features, from `first` on.
    """
    late[0] += rate * (gain(networks, answers, True) - late[0])
    late[1] += rate * (gain(line, answers, True) - late[1])
    for s in range(len(late) - 2):
        late[2 + s] += rate * (gain(features[:, first + s], answers, False) - late[2 + s])


@kernel
def standardise(features: Any, rate: float, centre: Any, spread: Any) -> None:
    """Move means and variances towards this list's; the first lists count fully."""
    count, width = features.shape
    means, squares = np.zeros(width), np.zeros(width)
    for row in range(count):
        for f in range(width):
            means[f] += features[row, f]
    means /= count
    for row in range(count):
        for f in range(width):
            squares[f] += (features[row, f] - means[f]) ** 2
    for f in range(width):
        step = means[f] - centre[f]
        centre[f] += rate * step
        spread[f] *= 1.0 - rate
        spread[f] += rate * ((1.0 - rate) * step * step + squares[f] / count)


@kernel
def random_bits(state: Any) -> Any:
    """64 bits of a state (SplitMix64, Steele, Lea and Flood 2014); add GOLDEN to go on."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@kernel
def state_of(seed: int, step: int) -> Any:
    """Where the random bits of a step begin."""
    return (np.uint64(seed) * GOLDEN) ^ (np.uint64(step) * np.uint64(0xD1342543DE82EF95))


@kernel
def draw(seed: int, step: int, count: int, out: Any) -> None:
    """Numbers below `count` that seed and step settle."""
    state = state_of(seed, step)
    for row in range(out.shape[0]):
        for at in range(out.shape[1]):
            state += GOLDEN
            out[row, at] = int(random_bits(state) % np.uint64(count))


@kernel
def sample(
    buffer: Any, lists: Any, lengths: Any, answers_of: Any, starts: Any, centre: Any, scale: Any,
    seed: int, step: int, out: Any, stand_for: Any,
) -> None:  # fmt: skip
    """Lists of the buffer one below the other, in standard units: some candidates of each.

    Its chosen ones, then as many of the others as there is room for, drawn without replacement;
    `stand_for` tells the logarithm of how many each of these stands for.
    """
    state, order = state_of(seed, step), np.empty(buffer.shape[1], np.int64)
    for at in range(len(lists)):
        length, answers, start = lengths[at], answers_of[at], starts[at]
        kept = starts[at + 1] - start
        for row in range(length):
            order[row] = row
        for row in range(answers, kept if kept < length else answers):  # Fisher and Yates
            state += GOLDEN
            other = row + int(random_bits(state) % np.uint64(length - row))
            order[row], order[other] = order[other], order[row]
        stand_for[at] = np.log((length - answers) / max(kept - answers, 1)) if kept < length else 0
        for row in range(kept):
            one = buffer[lists[at], order[row] : order[row] + 1]
            normal(one, centre, scale, out[start + row : start + row + 1])


@kernel
def adamw(
    gradient: Any, params: Any, first: Any, second: Any, average: Any, steps: int, pace: float,
    weight_decay: float, follow: float,
) -> bool:  # fmt: skip
    """One step of AdamW and of the running mean; False, and nothing moves, where it would break."""
    norm = np.float32(np.dot(gradient, gradient))
    if not norm < np.inf:
        return False
    shrink = np.float32(min(1.0, GRADIENT_NORM_MAX / (np.sqrt(norm) + 1e-12)))
    early_1 = np.float32(1.0 / (1.0 - MOMENT_1**steps))
    early_2 = np.float32(1.0 / (1.0 - MOMENT_2**steps))
    rate, decay = np.float32(pace), np.float32(1.0 - pace * weight_decay)
    moved = np.empty_like(params)
    for at in range(len(gradient)):
        slope = gradient[at] * shrink
        first[at] += np.float32(1.0 - MOMENT_1) * (slope - first[at])
        second[at] += np.float32(1.0 - MOMENT_2) * (slope * slope - second[at])
        move = first[at] * early_1 / (np.sqrt(second[at] * early_2) + np.float32(EPSILON))
        moved[at] = decay * params[at] - rate * move
    total = np.float32(0.0)
    for at in range(len(moved)):  # not finite as soon as one of them is not
        total += np.abs(moved[at])
    if not total < np.inf:
        first[:] = np.float32(0.0)
        second[:] = np.float32(0.0)
        return False
    params[:] = moved
    for at in range(len(params)):
        average[at] += np.float32(follow) * (params[at] - average[at])
    return True


@kernel
def layer(x: Any, weights: Any, bias: Any) -> Any:
    """Leaky ReLUs of x W + b."""
    out = np.dot(x, weights)
    for row in range(out.shape[0]):
        for j in range(out.shape[1]):
            unit = out[row, j] + bias[j]
            out[row, j] = unit if unit > 0 else np.float32(LEAK) * unit
    return out


@kernel
def network_scores(x: Any, params: Any, hidden: int) -> Any:
    """Scores of one network: two hidden layers and a straight term; what is not finite is 0.

    `params` has them in the order of `backward`'s.
    """
    width = x.shape[1]
    stops = np.cumsum(np.array([width * hidden, hidden, hidden * hidden, hidden, hidden, 1]))
    first = params[: stops[0]].reshape((width, hidden))
    second = params[stops[1] : stops[2]].reshape((hidden, hidden))
    two = layer(layer(x, first, params[stops[0] : stops[1]]), second, params[stops[2] : stops[3]])
    scores = np.dot(two, params[stops[3] : stops[4]]) + np.dot(x, params[stops[5] :])
    for row in range(len(scores)):
        score = scores[row] + params[stops[4]]
        scores[row] = score if -np.inf < score < np.inf else np.float32(0.0)
    return scores


@kernel
def forward(features: Any, centre: Any, scale: Any, networks: Any, hidden: int, out: Any) -> None:
    """Mean score of some networks, a row of parameters each.

    Of more than SHORTLIST candidates the first network's best alone are scored by the others; the
    rest stay as the first put them, and below.
    """
    count, width = features.shape
    x = np.empty((count, width), np.float32)
    normal(features, centre, scale, x)
    out[:] = network_scores(x, networks[0], hidden)
    best = np.arange(count)
    if count > SHORTLIST and len(networks) > 1:
        select(count, SHORTLIST, best, out.copy())
        best = np.sort(best[:SHORTLIST])
        for place in range(SHORTLIST):
            x[place] = x[best[place]]  # further down only: best ascends
        x = x[:SHORTLIST]
    mean = np.empty(len(best), np.float32)
    for place in range(len(best)):
        mean[place] = out[best[place]]
    for n in range(1, len(networks)):
        mean += network_scores(x, networks[n], hidden)
    mean /= np.float32(len(networks))
    lowest = np.min(mean)
    for row in range(count):
        out[row] = min(out[row], lowest)
    for place in range(len(best)):
        out[best[place]] = mean[place]


@kernel
def forward_of_all(
    features: Any, starts: Any, centre: Any, scale: Any, networks: Any, hidden: int, out: Any
) -> None:
    """`forward` of several lists: a product of matrices rounds by its size, so each by itself."""
    for number in range(len(starts) - 1):
        start, stop = starts[number], starts[number + 1]
        if start < stop:
            forward(features[start:stop], centre, scale, networks, hidden, out[start:stop])


@kernel
def line_scores(features: Any, centre: Any, scale: Any, line: Any, out: Any) -> None:
    """Weighted sums of features in standard units; each row by itself, in one order."""
    row_of = np.empty((1, features.shape[1]), np.float32)
    for row in range(len(features)):
        normal(features[row : row + 1], centre, scale, row_of)
        total = np.float32(0.0)
        for f in range(len(line)):
            total += row_of[0, f] * line[f]
        out[row] = total


@kernel
def backward(
    x: Any, answers_of: Any, starts: Any, stand_for: Any, first: Any, first_bias: Any, second: Any,
    second_bias: Any, last: Any, bias: Any, straight: Any, answer_power: float, to_first: Any,
    to_first_bias: Any, to_second: Any, to_second_bias: Any, to_last: Any, to_bias: Any,
    to_straight: Any,
) -> None:  # fmt: skip
    """Gradient of the mean over lists of -|chosen|^(power - 1) sum_chosen log softmax.

    Each candidate of list i that was not chosen counts for exp(stand_for[i]) of them.
    """
    one = layer(x, first, first_bias)
    two = layer(one, second, second_bias)
    slope = np.dot(two, last) + np.dot(x, straight) + bias[0]
    lists = len(starts) - 1
    for at in range(lists):
        start, stop = starts[at], starts[at + 1]
        top, answers, total = np.float32(-np.inf), answers_of[at], np.float32(0.0)
        loud = np.float32(answers**answer_power / lists)
        for row in range(start + answers, stop):
            slope[row] += stand_for[at]
        for row in range(start, stop):
            top = max(top, slope[row])
        for row in range(start, stop):
            slope[row] = np.exp(slope[row] - top)
            total += slope[row]
        for row in range(start, stop):
            share = np.float32(row - start < answers) / np.float32(answers)
            slope[row] = loud * (slope[row] / total - share)
    back_two = np.empty_like(two)
    for row in range(len(x)):
        for j in range(len(last)):
            back_two[row, j] = slope[row] * last[j]
            if two[row, j] <= 0:
                back_two[row, j] *= np.float32(LEAK)
    back_one = np.dot(back_two, second.T)
    for row in range(len(x)):
        for j in range(one.shape[1]):
            if one[row, j] <= 0:
                back_one[row, j] *= np.float32(LEAK)
            to_first_bias[j] += back_one[row, j]
            to_second_bias[j] += back_two[row, j]
        to_bias[0] += slope[row]
    to_first[:] = np.dot(x.T, back_one)
    to_second[:] = np.dot(one.T, back_two)
    to_last[:] = np.dot(slope, two)
    to_straight[:] = np.dot(slope, x)
