"""quality.json as tables and pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.evaluation_report import with_interval

if TYPE_CHECKING:
    from benchmarks.quality import Case

SERVED = "recsys"
GORSE = {"as served": 0.0166, "its best chain": 0.0217}  # 0.5.11, on the events of `retail-last`
GORSE_TIMES = 1.4
REFITS = ("als-refit", "ease-refit")
REFITS_TIMES = 1.5
NEW_ITEMS_TIMES = 2.0

Numbers = Mapping[str, Any]


def rounded(value: Any) -> Any:
    """Plain data with six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def write(out: Path, cases: Mapping[str, "Case"], results: Mapping[str, Numbers]) -> None:
    """Write quality.md and its pictures from what was measured."""
    whole = {name: results[name] for name in cases if name in results}
    late = {name: each for name, each in results.items() if name.endswith("-late")}
    lines = [
        "# Quality",
        "",
        "Written by `python -m benchmarks.quality DATA`; figures in `quality.json`. Full ranking",
        "over all items known so far, no sampled negatives; a basket is predicted before any of it",
        "is learned; one set of default settings for all logs and protocols; each baseline was",
        "tuned on the log's first 20 %; the popular stand behind those that say nothing of some",
        "users. NDCG@10 with half the width of its 95 % interval over users; *p* of Wilcoxon's",
        "test over 20 paired windows; microseconds of processor time, single runs on a machine",
        "with two cores that was shared, so they are above what a core of one's own gives; those",
        "of recsys as a worker under load spends them: lists 32 at a time, events in chunks.",
        "",
        *_table(_summary(cases, whole)),
        "",
        *_checks(whole),
    ]
    for name, numbers in whole.items():
        lines += ["", f"## {cases[name].title}", "", f"`{numbers['command']}`", ""]
        lines += [
            f"{numbers['scored']:,} answers of {numbers['events']:,} events, {numbers['users']:,} "
            f"users, {numbers['items']:,} items; log {numbers['digest']}.", "",
        ]  # fmt: skip
        lines += _table(list(_methods(numbers)))
        lines += ["", *_table(list(_splits(numbers)))] if numbers["splits"] else []
        for method, why in numbers["skipped"].items():
            lines += ["", f"{method} was left out: {why}."]
        lines += ["", _tuned(numbers)]
    if late:
        lines += ["", "## What real time is worth", "", "The same lists where learning lags.", ""]
        lines += [f"`{each['command']}`\n" for each in late.values()]
        lines += _table(list(_late(cases, late)))
    drawn = _draw(out, cases, whole, late)
    lines += ["", *(f"![{path.stem}]({path.name})" for path in drawn)]
    (out / "quality.md").write_text("\n".join(lines) + "\n")


def _best(numbers: Numbers, names: Sequence[str] | None = None) -> tuple[str, float]:
    """The baseline with the highest NDCG@10."""
    figures = {
        name: each["ndcg@10"]
        for name, each in numbers["methods"].items()
        if name != SERVED and (names is None or name in names)
    }
    best = max(figures, key=lambda name: figures[name], default="")
    return best, figures.get(best, 0.0)


def _summary(cases: Mapping[str, "Case"], whole: Mapping[str, Numbers]) -> list[dict[str, str]]:
    rows = []
    for name, numbers in whole.items():
        case, own = cases[name], numbers["methods"][SERVED]
        best, figure = _best(numbers)
        floor = max(figure, case.floor)
        ratio = own["ndcg@10"] / floor if floor else 0.0
        rows.append(
            {
                "log": case.title, "answers": f"{numbers['scored']:,}",
                "best single": f"{figure:.4f} {best}",
                "earlier best": f"{case.floor:.4f}" if case.floor else "-",
                "recsys": with_interval(own["ndcg@10"], own["ndcg@10_interval"]),
                "times the higher": f"{ratio:.2f}",
                "to reach": f"{case.times:.2f}" if case.times else "-",
                "reached": "-" if case.times is None else ("yes" if ratio >= case.times else "no"),
            }
        )  # fmt: skip
    return rows


def _checks(whole: Mapping[str, Numbers]) -> Iterator[str]:
    """The other lines that are to be reached, each with what was found."""
    if "retail-last" in whole:
        numbers = whole["retail-last"]
        own = numbers["methods"][SERVED]["ndcg@10"]
        best = GORSE["its best chain"]
        told = "reached" if own >= GORSE_TIMES * best else "not reached"
        yield (
            f"- Gorse 0.5.11 on the events of `{numbers['command']}`: NDCG@10 "
            f"{GORSE['as served']:.4f} as served, {best:.4f} its best chain; recsys {own:.4f}, "
            f"{own / best:.2f} times that ({GORSE_TIMES:g} to reach: {told})."
        )
    times = {}
    for name, numbers in whole.items():
        refit, figure = _best(numbers, REFITS)
        if figure:
            times[name] = (numbers["methods"][SERVED]["ndcg@10"] / figure, refit)
    if times:
        told = ", ".join(f"{name} {ratio:.2f} ({refit})" for name, (ratio, refit) in times.items())
        yield f"- Times the better of the scheduled refits ({REFITS_TIMES:g} to reach): {told}."
    parts = []
    for name, numbers in whole.items():
        hits = numbers["splits"].get("new items", {}).get("hr", {})
        if "popularity" in hits:
            parts.append(f"{name} {hits[SERVED]:.4f} beside {hits['popularity']:.4f}")
    if parts:
        yield (
            f"- HR@10 of items with fewer than five events beside popularity's "
            f"({NEW_ITEMS_TIMES:g} times to reach): {', '.join(parts)}."
        )
    behind = [
        f"{name}, {split} ({with_interval(each['difference'], each['difference_interval'], '+')} "
        f"beside {each['overall_best']})"
        for name, numbers in whole.items()
        for split, each in numbers["splits"].items()
        if each["behind"]
    ]
    yield f"- Splits behind the overall best baseline: {'; '.join(behind) or 'none'}."


def _methods(numbers: Numbers) -> Iterator[dict[str, str]]:
    compared = {name.rpartition(" / ")[2]: each for name, each in numbers["compared"].items()}
    methods = sorted(numbers["methods"].items(), key=lambda pair: -pair[1]["ndcg@10"])
    for name, each in methods:
        ratio = compared.get(name)
        yield {
            "method": name, "HR@10": f"{each['hr@10']:.4f}",
            "NDCG@10": with_interval(each["ndcg@10"], each["ndcg@10_interval"]),
            "MRR@10": f"{each['mrr']:.4f}", "coverage": f"{each['coverage@10']:.2f}",
            "Gini": f"{each['gini']:.2f}", "novelty, bits": f"{each['novelty_bits']:.1f}",
            "diversity": f"{each['diversity']:.2f}",
            "recsys / it": f"{ratio['ratio']:.2f}" if ratio and ratio["ratio"] else "",
            "p": f"{ratio['p']:.0e}" if ratio else "",
            "learn, µs": f"{each['learn_us']:.0f}", "list, µs": f"{each['recommend_us']:.0f}",
            "MB": f"{each['memory_bytes'] / 1e6:.0f}" if each["memory_bytes"] else "-",
        }  # fmt: skip


def _splits(numbers: Numbers) -> Iterator[dict[str, str]]:
    for split, each in numbers["splits"].items():
        hits = each["hr"]
        own = numbers["methods"][SERVED]["splits"][split]
        yield {
            "split": split, "answers": f"{each['events']:,}",
            "recsys": with_interval(each[SERVED], own["ndcg@10_interval"]),
            "best there": f"{each['best_ndcg']:.4f} {each['best']}",
            f"less {each['overall_best']}": with_interval(
                each["difference"], each["difference_interval"], "+"
            ),
            "behind": "yes" if each["behind"] else "no", "HR@10": f"{hits[SERVED]:.4f}",
            "popularity's": f"{hits['popularity']:.4f}" if "popularity" in hits else "-",
        }  # fmt: skip


def _tuned(numbers: Numbers) -> str:
    told = [
        f"{n}: {each['settings']}" for n, each in numbers["methods"].items() if each["settings"]
    ]
    return f"Tuned to: {'; '.join(told)}."


def _late(cases: Mapping[str, "Case"], late: Mapping[str, Numbers]) -> Iterator[dict[str, str]]:
    for name, numbers in late.items():
        row = {"log": cases[name.removesuffix("-late")].title}
        figures = [(each["sync_s"], each["methods"][SERVED]["ndcg@10"]) for each in numbers["sync"]]
        for lag_s, figure in figures:
            row[f"{lag_s:g} s late"] = f"{figure:.4f} ({figure / figures[0][1] - 1:+.0%})"
        yield row


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return lines + ["| " + " | ".join(row.values()) + " |" for row in rows]


def _draw(
    out: Path, cases: Mapping[str, "Case"], whole: Mapping[str, Numbers],
    late: Mapping[str, Numbers],
) -> list[Path]:  # fmt: skip
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    from matplotlib import pyplot

    drawn = []
    if whole:
        figure, axes = pyplot.subplots(figsize=(8, 0.62 * len(whole) + 1.1), layout="constrained")
        for at, numbers in enumerate(reversed(whole.values())):
            methods = numbers["methods"]
            others = [each["ndcg@10"] for name, each in methods.items() if name != SERVED]
            best, _ = _best(numbers)
            own = methods[SERVED]
            axes.barh(at + 0.18, own["ndcg@10"], 0.36, xerr=own["ndcg@10_interval"] or 0.0,
                      color="#d62728", label=SERVED if at == 0 else None)  # fmt: skip
            if best:
                axes.barh(at - 0.18, methods[best]["ndcg@10"], 0.36, color="#b0b7c3",
                          label="best single method" if at == 0 else None)  # fmt: skip
                axes.text(0.0005, at - 0.18, best, va="center", fontsize=7)
            axes.plot(others, [at - 0.18] * len(others), "|", color="#4c5566", markersize=7,
                      label="every single method" if at == 0 else None)  # fmt: skip
        axes.set_yticks(range(len(whole)), [cases[name].title for name in reversed(whole)])
        axes.set_xlabel("NDCG@10, full ranking")
        axes.legend(fontsize=8, loc="lower right")
        drawn.append(_save(out / "quality.png", figure))
    for name, numbers in whole.items():
        figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
        best = sorted(numbers["methods"].items(), key=lambda pair: -pair[1]["ndcg@10"])[:7]
        for method, each in best:
            count, first = len(each["curve"]), numbers["warm_up"]
            places = [first + (1 - first) * (at + 0.5) / count for at in range(count)]
            axes.plot(places, each["curve"], label=method, linewidth=2.5 if method == SERVED else 1)
        axes.set_title(cases[name].title, fontsize=10)
        axes.set_xlabel("share of the log")
        axes.set_ylabel("NDCG@10")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7)
        drawn.append(_save(out / f"quality-{name}.png", figure))
    if late:
        figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
        for name, numbers in late.items():
            lags = [f"{each['sync_s']:g} s" for each in numbers["sync"]]
            figures = [each["methods"][SERVED]["ndcg@10"] for each in numbers["sync"]]
            axes.plot(lags, figures, marker="o", label=cases[name.removesuffix("-late")].title)
        axes.set_xlabel("learning lags by")
        axes.set_ylabel("NDCG@10")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        drawn.append(_save(out / "quality-late.png", figure))
    return drawn


def _save(path: Path, figure: Any) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return path
