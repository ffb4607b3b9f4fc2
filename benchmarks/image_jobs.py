"""What the image benchmarks share: trainings that are done once, and tables."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.bundle import Bundle, current_version, read
from models.photos import read_folder
from recsys.training_data import Job

SOURCES = {
    "clothing": ("CC0-1.0", "Clothing dataset (small), A. Grigorev and contributors"),
    "grocery-store": ("MIT", "Grocery Store Dataset, Klasson et al. (2019)"),
}
JOINED = "efficientnet-lite0+colour-histogram"
CLASSICAL = ("perceptual-hash", "hog", "colour-histogram")


class Page:
    """A Markdown page in parts, each under its heading with its command.

    What an earlier run printed stays for the parts that are not run.
    """

    def __init__(self, path: Path, title: str, order: tuple[str, ...]) -> None:
        self._path = path
        self._title = title
        self._order = order
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self._parts: dict[str, str] = {}
        for section in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
            if found := re.search(r"--only ([a-z-]+)", section):
                self._parts[found[1]] = section.strip()

    def write(self, part: str, text: str) -> None:
        """Prints the part and writes the page. `text` begins with its heading."""
        heading, body = text.split("\n", 1)
        command = f"Printed by `python -m benchmarks.images FOLDER --only {part}`."
        self._parts[part] = f"{heading}\n\n{command}\n\n{body.strip()}"
        print(self._parts[part], flush=True)
        there = [self._parts[name] for name in self._order if name in self._parts]
        self._path.write_text("\n\n".join([f"# {self._title}", *there]) + "\n", encoding="utf-8")


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """In Markdown, the first column left, the others right."""
    lines = [head, tuple("---" if n == 0 else "---:" for n in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def job(options: argparse.Namespace, data: str, name: str, **more: Any) -> Job:
    """A training on one of the folders, which tells each epoch on the standard output."""
    licence, origin = SOURCES[data]
    work: Path = options.work

    def watch(what: str, done: int, total: int) -> None:
        if done == total or what.startswith("loss"):
            print(f"  {name}: {what} ({done}/{total})", flush=True)

    return Job(
        read_folder(options.folder / data, more.get("label_is_product", False)), name,
        work / "bundles", work / "encoders", work / "training",
        licence=licence, origin=origin, watch=watch, **more,
    )  # fmt: skip


def trained_once(
    options: argparse.Namespace, wanted: Job, train: Callable[[Job], Bundle]
) -> Bundle:
    """The bundle of that name, unless there is one already."""
    if current_version(wanted.bundles, wanted.name) is None or options.again:
        return train(wanted)
    return read(wanted.bundles, wanted.name)


def trained_alexnet(options: argparse.Namespace, train: Callable[[Job], Bundle]) -> Bundle | None:
    """AlexNet from scratch on the clothing photos, where it is there or asked for."""
    wanted = job(options, "clothing", "alexnet", epochs=options.alexnet_epochs)
    if current_version(wanted.bundles, wanted.name) is None and not options.alexnet_epochs:
        return None
    return trained_once(options, wanted, train)
