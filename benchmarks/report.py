"""Results to files: results.json holds them, speed.md shows them, pictures where matplotlib is."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import Table


def keep(out: Path, name: str, tables: Sequence[Table], about: dict[str, Any]) -> None:
    """Put a benchmark's tables into results.json, in the place of its earlier ones."""
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {**about, "tables": [asdict(table) for table in tables]}
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def write(out: Path, names: Sequence[str]) -> None:
    """Write speed.md and the pictures from results.json."""
    results = json.loads((out / "results.json").read_text())
    lines = ["# Speed", "", "Written by `python -m benchmarks.run`; figures in `results.json`."]
    for name in names:
        if name not in results:
            continue
        result = results[name]
        lines += ["", f"## {name.capitalize()}", "", f"`{result['command']}` ({result['machine']})"]
        for number, table in enumerate(result["tables"]):
            lines += ["", f"### {table['title']}", "", *_markdown(table)]
            lines += ["", *table["notes"]] if table["notes"] else []
            picture = f"{name}-{number}.png"
            if table["picture"] and _draw(out / picture, table):
                lines += ["", f"![{table['title']}]({picture})"]
    (out / "speed.md").write_text("\n".join(lines) + "\n")


def _markdown(table: dict[str, Any]) -> list[str]:
    columns = table["columns"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + [
        "| " + " | ".join(_text(row.get(name)) for name in columns) + " |" for row in table["rows"]
    ]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _draw(path: Path, table: dict[str, Any]) -> bool:
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    kind, x, *ys = table["picture"]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(table["rows"]) + 1.5))
    if kind == "bars":
        rows = [row for row in table["rows"] if row.get(ys[0]) is not None][::-1]
        axes.barh([str(row[x]) for row in rows], [row[ys[0]] for row in rows], color="#4c78a8")
        axes.set_xscale("log")
        axes.set_xlabel(ys[0])
    else:
        figure.set_size_inches(7, 4)
        for y in ys:
            rows = [row for row in table["rows"] if row.get(y) is not None]
            axes.plot([str(row[x]) for row in rows], [row[y] for row in rows], marker="o", label=y)
        axes.set_yscale("log")
        axes.set_xlabel(x)
        axes.legend()
    axes.grid(visible=True, axis="both", alpha=0.3)
    axes.set_title(table["title"])
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True
