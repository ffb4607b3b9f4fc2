"""What an evaluation says: numbers for machines, a table and a picture for people."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import metrics
from recsys.evaluate import Outcome
from recsys.evaluation_log import Answers, EvaluationLog
from recsys.evaluation_methods import SERVED

WINDOWS = 20
NEW_USER_EVENTS = 5  # users and items with fewer events before a step are new
NEW_ITEM_EVENTS = 5
HEAD_SHARE = 0.1  # the most popular tenth of the items at the log's end is the head

Numbers = dict[str, Any]


def report(
    log: EvaluationLog, answers: Answers, outcomes: Mapping[str, Outcome], *, protocol: str,
    warm_up: float, lag_ms: int, skipped: Mapping[str, str], k: int,
) -> Numbers:  # fmt: skip
    """Everything as one JSON object."""
    features = _product_features(log)
    counts = np.bincount(log.items, minlength=len(log.item_ids))
    masks, users = splits(log, answers), log.users[answers.events]
    methods: Numbers = {
        name: _numbers(outcome, users, masks, counts, features, k)
        for name, outcome in outcomes.items()
    }
    return {
        "protocol": protocol, "warm_up": warm_up, "sync_s": lag_ms / 1000,
        "users": len(log.user_ids), "items": len(log.item_ids), "events": len(log),
        "steps": len(log.steps) - 1, "scored": len(answers), "digest": log.digest,
        "methods": methods, "compared": compared(outcomes, k),
        "splits": splits_compared(outcomes, masks, users, k), "skipped": dict(skipped),
    }  # fmt: skip


def splits(log: EvaluationLog, answers: Answers) -> dict[str, NDArray[np.bool_]]:
    """Which answers belong to which part: new and returning users, new, head and tail items."""
    counts = np.bincount(log.items, minlength=len(log.item_ids))
    head = np.zeros(len(counts), np.bool_)
    head[np.argsort(-counts, kind="stable")[: max(1, int(HEAD_SHARE * len(counts)))]] = True
    new_user = answers.user_before < NEW_USER_EVENTS
    new_item = answers.item_before < NEW_ITEM_EVENTS
    of_head = head[log.items[answers.events]]
    return {
        "new users": new_user, "returning users": ~new_user, "new items": new_item,
        "head items": of_head & ~new_item, "tail items": ~of_head & ~new_item,
    }  # fmt: skip


def _numbers(
    outcome: Outcome, users: NDArray[np.int32], masks: Mapping[str, NDArray[np.bool_]],
    counts: NDArray[np.int64], features: NDArray[np.float32], k: int,
) -> Numbers:  # fmt: skip
    gains, hits = metrics.gains(outcome.ranks, k), metrics.hits(outcome.ranks, k)
    shown = metrics.exposure(outcome.lists, len(counts))
    return {
        f"hr@{k}": _mean(hits), f"ndcg@{k}": _mean(gains),
        "mrr": _mean(metrics.reciprocal_ranks(outcome.ranks, k)),
        f"coverage@{k}": metrics.coverage(shown), "gini": metrics.gini(shown),
        "novelty_bits": metrics.novelty(outcome.lists, counts),
        "diversity": metrics.intra_list_diversity(outcome.lists, features),
        "learn_us": outcome.learn_us, "recommend_us": outcome.recommend_us,
        "memory_bytes": outcome.memory_bytes, "events": len(users),
        f"ndcg@{k}_interval": interval(gains, users),
        "splits": {
            name: {
                "events": int(mask.sum()), f"hr@{k}": _mean(hits[mask]),
                f"ndcg@{k}": _mean(gains[mask]),
                "mrr": _mean(metrics.reciprocal_ranks(outcome.ranks, k)[mask]),
                f"ndcg@{k}_interval": interval(gains[mask], users[mask]),
            }
            for name, mask in masks.items()
        },
        "curve": metrics.by_window(gains, WINDOWS).round(6).tolist(),
        "settings": outcome.settings,
    }  # fmt: skip


def compared(outcomes: Mapping[str, Outcome], k: int) -> Numbers:
    """The first method against each other one: ratio of NDCG, and p over paired windows."""
    if not outcomes:
        return {}
    first = SERVED if SERVED in outcomes else next(iter(outcomes))
    own = metrics.gains(outcomes[first].ranks, k)
    out: Numbers = {}
    for name, outcome in outcomes.items():
        if name != first:
            other = metrics.gains(outcome.ranks, k)
            out[f"{first} / {name}"] = {
                "ratio": _mean(own) / _mean(other) if other.any() else None,
                "p": metrics.paired_p(
                    metrics.by_window(own, WINDOWS), metrics.by_window(other, WINDOWS)
                ),
            }
    return out


def splits_compared(
    outcomes: Mapping[str, Outcome], masks: Mapping[str, NDArray[np.bool_]],
    users: NDArray[np.int32], k: int,
) -> Numbers:  # fmt: skip
    """The served lists beside the overall best baseline, split by split.

    `difference` is NDCG of the served less that of the baseline that is best over all answers, with
    the 95 % interval of the paired difference, over the `users` of the answers; `behind` says that
    it is below 0 by more than that. `best` is the baseline that is best within the split.
    """
    gained = {
        name: metrics.gains(outcome.ranks, k)
        for name, outcome in outcomes.items()
        if not name.startswith(f"{SERVED}:")  # a variant is no baseline
    }
    if SERVED not in gained or len(gained) < 2:
        return {}
    own = gained.pop(SERVED)
    overall = max(gained, key=lambda name: _mean(gained[name]))
    out: Numbers = {}
    for split, mask in masks.items():
        if mask.sum() < 2:
            continue
        apart = own[mask] - gained[overall][mask]
        best = max(gained, key=lambda name: _mean(gained[name][mask]))
        half = interval(apart, users[mask])
        out[split] = {
            "events": int(mask.sum()), SERVED: _mean(own[mask]),
            "overall_best": overall, "overall_best_ndcg": _mean(gained[overall][mask]),
            "difference": _mean(apart), "difference_interval": half,
            "behind": half is not None and bool(_mean(apart) < -half),
            "best": best, "best_ndcg": _mean(gained[best][mask]),
            "hr": {
                name: _mean(metrics.hits(outcomes[name].ranks, k)[mask])
                for name in (SERVED, "popularity") if name in outcomes
            },
        }  # fmt: skip
    return out


def split_rows(numbers: Numbers, k: int) -> tuple[list[Numbers], list[str]]:
    """The table of splits for people, with its columns."""
    lines = [
        {
            "split": split, "answers": f"{each['events']:,}",
            f"NDCG@{k}": f"{each[SERVED]:.4f}",
            "less overall best": with_interval(each["difference"], each["difference_interval"], "+")
            + (" behind" if each["behind"] else ""),
            "best here": f"{each['best_ndcg']:.4f} {each['best']}",
            f"HR@{k}": f"{each['hr'][SERVED]:.4f}",
            "of popularity": f"{each['hr'].get('popularity', math.nan):.4f}",
        }
        for split, each in numbers["splits"].items()
    ]  # fmt: skip
    columns = ["split", "answers", f"NDCG@{k}", "less overall best", "best here", f"HR@{k}",
               "of popularity"]  # fmt: skip
    return lines, columns


def rows(numbers: Numbers, k: int) -> tuple[list[Numbers], list[str]]:
    """The table for people, best NDCG first, with its columns; learn and list in microseconds."""
    ratios = {name.rpartition(" / ")[2]: each for name, each in numbers["compared"].items()}
    lines = []
    for name, each in sorted(numbers["methods"].items(), key=lambda pair: -pair[1][f"ndcg@{k}"]):
        ratio = ratios.get(name)
        lines.append(
            {
                "method": name, f"HR@{k}": f"{each[f'hr@{k}']:.4f}",
                f"NDCG@{k}": f"{each[f'ndcg@{k}']:.4f}",
                "±": half_width(each[f"ndcg@{k}_interval"]),
                "MRR": f"{each['mrr']:.4f}", "cover": f"{each[f'coverage@{k}']:.2f}",
                "ratio": f"{ratio['ratio']:.2f}" if ratio and ratio["ratio"] else "",
                "p": f"{ratio['p']:.0e}" if ratio else "",
                "learn": f"{each['learn_us']:.0f}", "list": f"{each['recommend_us']:.0f}",
                "MB": f"{each['memory_bytes'] / 1e6:.0f}",
            }
        )  # fmt: skip
    columns = ["method", f"HR@{k}", f"NDCG@{k}", "±", "MRR", "cover", "ratio", "p", "learn",
               "list", "MB"]  # fmt: skip
    return lines, columns


def draw(numbers: Sequence[Numbers], path: Path, k: int) -> None:
    """NDCG over the stream, a line a method; of several lags, NDCG by lag. Needs matplotlib."""
    import matplotlib as mpl  # an extra

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    if len(numbers) == 1:
        for name, each in numbers[0]["methods"].items():
            curve = each["curve"]
            axes.plot(
                np.linspace(numbers[0]["warm_up"], 1, len(curve)), curve, label=name,
                linewidth=2.5 if name == SERVED else 1,
            )  # fmt: skip
        axes.set_xlabel("share of the log")
    else:
        lags = [f"{each['sync_s']:g} s" for each in numbers]
        for name in numbers[0]["methods"]:
            axes.plot(
                lags, [each["methods"][name][f"ndcg@{k}"] for each in numbers],
                marker="o", label=name,
            )  # fmt: skip
        axes.set_xlabel("learning lags by")
    axes.set_ylabel(f"NDCG@{k}")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def interval(gains: NDArray[np.float64], users: NDArray[np.int32]) -> float | None:
    """Half the width of the mean's 95 % interval over users; None where there is but one."""
    half = metrics.interval(gains, users)
    return half if math.isfinite(half) else None


def half_width(half: float | None) -> str:
    """An interval for people."""
    return "" if half is None else f"{half:.4f}"


def with_interval(value: float, half: float | None, sign: str = "") -> str:
    """A figure with its interval for people."""
    return f"{value:{sign}.4f}" + (f" ± {half:.4f}" if half is not None else "")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _product_features(log: EvaluationLog) -> NDArray[np.float32]:
    """Title words and category of each product as hashed counts; rows of zeros without one."""
    out = np.zeros((len(log.item_ids), 64), np.float32)
    for number, item_id in enumerate(log.item_ids):
        product = log.products.get(item_id)
        if product is not None:
            words = [*(product.title or "").lower().split(), f"category:{product.category}"]
            for word in words:
                out[number, _bucket(word)] += 1.0
    return out


def _bucket(word: str) -> int:
    import zlib

    return zlib.crc32(word.encode()) % 64
