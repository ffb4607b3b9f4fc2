"""What all commands share: settings, output, and errors in one sentence."""

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from recsys.settings import Settings, SettingsError, load
from streams import unconnected

if TYPE_CHECKING:
    from streams.connection import Connection

FAILURE = 1
FILE_WIDTH = 160
USAGE = 2
INTERRUPTED = 130
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
T = TypeVar("T")


class CommandError(Exception):
    """A command cannot do what was asked; the message says why, in a sentence."""


@dataclass(frozen=True)
class Options:
    """What was said before the command's name."""

    config: Path | None = None
    debug: bool = False

    def apply(self) -> None:
        """Hold for this command. Clients log what we say anyway; --debug lets them speak."""
        _options.set(self)
        logging.getLogger("asyncio").setLevel(logging.DEBUG if self.debug else logging.CRITICAL)
        unconnected.listen()
        if self.debug:
            logging.basicConfig(level=logging.INFO)
            clients = logging.getLogger("aiokafka")
            clients.setLevel(logging.DEBUG)
            clients.propagate = True
            # its requests hold passwords and tokens
            logging.getLogger("aiokafka.conn").setLevel(logging.INFO)


_options: ContextVar[Options] = ContextVar("options")


class Commands(TyperGroup):
    """The top of the commands: turns every error into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            say("recsys: stopped")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # Typer's own errors bring their exit code, and are told by Typer.
            if hasattr(error, "exit_code") or _options.get(Options()).debug:
                raise
            typer.echo(f"recsys: {_sentence(error)}", err=True)
            raise typer.Exit(USAGE if isinstance(error, SettingsError) else FAILURE) from None


def _sentence(error: Exception) -> str:
    # Errors of our own are sentences already; they are told by their package.
    package = type(error).__module__.partition(".")[0]
    if package in {"recsys", "streams", "models"} or isinstance(error, OSError):
        return str(error)
    if package == "aiokafka":
        return f"Kafka: {error}"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: install recsys[worker]"
    return f"unexpected {type(error).__name__}: {error} (recsys --debug shows where)"


def settings(**given: Any) -> Settings:
    """The settings, with `--config` honoured. Raises SettingsError."""
    return load(_options.get(Options()).config, **given)


def connection(given: Settings) -> "Connection":
    """How to reach the broker, credentials checked. Raises SecurityError."""
    return given.connection()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)


def say(sentence: str) -> None:
    """A sentence for people, on standard error."""
    typer.echo(sentence, err=True)


def print_json(data: Any) -> None:
    """One JSON document, on standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=not _unicode()))


def print_json_line(data: Any) -> None:
    """One JSON document on a line of its own, on standard output."""
    typer.echo(json.dumps(data, ensure_ascii=not _unicode()))


def _unicode() -> bool:
    """Whether standard output takes every letter."""
    return (sys.stdout.encoding or "utf-8").lower().startswith("utf")


def print_table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """A table on standard output; numbers stand to the right."""
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column in columns:
        numeric = rows and all(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(_cell(row.get(column)))) for column in columns))
    # Where nobody's window sets the width, lines are as long as the columns need.
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(table, markup=False)


def printable(text: str) -> str:
    """Text of a client's without what a terminal would act on; lines stay lines.

    >>> printable("a\\x1b[2Jb")
    'a\ufffd[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


@contextmanager
def progress_bar(total: int | None, shown: bool, count: bool = False) -> Iterator[Any]:
    """A progress bar on standard error; yields what is to be called with (done, words)."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if count else TaskProgressColumn(),
        TimeRemainingColumn(),
    ]
    console = Console(stderr=True)
    shown = shown and console.is_terminal
    bar = Progress(*columns, console=console, disable=not shown, transient=True)
    with bar:
        task = bar.add_task("", total=total)

        def update(done: int, words: str) -> None:
            bar.update(task, completed=done, description=words)

        yield update


def parse_fields(texts: Sequence[str]) -> dict[str, Any]:
    """Read `field=value` pairs; a value is JSON where it can be read so, else text."""
    fields = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not field=value")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields
