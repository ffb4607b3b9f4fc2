"""The reference page, written from the code: commands, settings, topics, reasons, metrics."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import typer

from recsys import metrics
from recsys.settings_text import reference as settings_table
from streams import topics
from streams.codec import REASONS
from streams.schema import DEAD_LETTER_HEADERS, RESOLVED_HEADER, headers_of


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# Reference",
        "Written from the code by `recsys schema docs`; a test keeps it up to date.",
        "## Commands",
        "Data go to standard output, everything else to standard error. `--json` prints data for "
        "machines. Exit codes: 0, 1 for a failure, 2 for wrong usage or a wrong setting. "
        "`recsys --config FILE` names the settings file, `recsys --debug` shows tracebacks.",
        *_commands(),
        "## Settings",
        "Defaults, then `recsys.toml`, then variables; an unknown or wrong one is an error that "
        "names it. `recsys config` shows the effective ones, `recsys config --template` a file to "
        "start from.",
        settings_table().rstrip(),
        "## Topics",
        "Under the prefix `recsys`; `.dlq` marks those whose unreadable records go to a topic of "
        "that ending. Internal topics may change with the code.",
        _topics(),
        "## Headers",
        _headers(),
        "## Reasons of dead letters",
        _table(("reason", "what it says"), [(f"`{name}`", said) for name, said in REASONS.items()]),
        "## Metrics",
        _table(("metric", "labels", "what it is"), list(_metrics())),
    ]
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command's full name and what typer made of it."""
    from recsys.cli import app

    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"recsys {name}", command
        else:
            yield from ((f"recsys {name} {verb}", each) for verb, each in inner.items())


def _commands() -> Iterator[str]:
    for name, command in commands():
        yield f"### `{name}`"
        yield " ".join((command.help or "").split())
        rows = [(_spelling(each), " ".join((each.help or "").split())) for each in command.params]
        if rows:
            yield _table(("option", "what it does"), rows)


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).upper()}`"
    name = parameter.opts[0]
    return f"`{name}`" if parameter.is_flag else f"`{name} {parameter.metavar or 'VALUE'}`"


def _topics() -> str:
    rows = []
    for topic in topics.TOPICS:
        name = f"`{topic.name()}`" + (" (.dlq)" if topic.dead_letters else "")
        kind = "" if topic.public else "internal: "
        rows.append(
            (name, f"{topic.keyed}_id", topic.encoding, topic.cleanup, f"{kind}{topic.about}")
        )
    return _table(("topic", "key", "value", "cleanup", "what it holds"), rows)


def _headers() -> str:
    carried: dict[str, tuple[str, list[str]]] = {}
    for topic in topics.TOPICS:
        for name, about in headers_of(topic).items():
            carried.setdefault(name, (about, []))[1].append(topic.suffix)
    rows = [
        (f"`{name}`", about, "all" if len(on) == len(topics.TOPICS) else ", ".join(on))
        for name, (about, on) in carried.items()
    ]
    letters = {**DEAD_LETTER_HEADERS, **RESOLVED_HEADER}
    rows += [(f"`{name}`", about, "*.dlq") for name, about in letters.items()]
    return _table(("header", "what it means", "topics"), rows)


def _metrics() -> Iterator[tuple[str, str, str]]:
    for metric in vars(metrics).values():
        labels = getattr(metric, "_labelnames", None)
        if labels is not None and not metric._labelvalues:  # else one of another's label
            for each in metric.describe():
                yield _metric(each, labels)
    for each in metrics.WorkerCollector(_NO_WORKER).collect():
        yield _metric(each, each._labelnames)


def _metric(each: Any, labels: Sequence[str]) -> tuple[str, str, str]:
    total = "_total" if each.type == "counter" else ""
    return f"`{each.name}{total}`", ", ".join(labels), each.documentation


# Of what is read off a worker only the names are wanted here.
_NO_WORKER: Any = SimpleNamespace(
    workers=(), users=None, items=(), pipeline=SimpleNamespace(model_version="")
)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
