"""The command line: `recsys <command>`. One file a noun under `recsys/commands/`.

Data go to standard output, everything else to standard error. Exit codes: 0, 1 for a failure, 2
for wrong usage or a wrong setting, 130 where Ctrl-C ended it. An error is one sentence; `--debug`
shows where it came from.
"""

from pathlib import Path
from typing import Annotated

import typer

from recsys import __version__
from recsys.commands import (
    broker,
    config,
    evaluate,
    forget,
    images,
    produce,
    promote,
    recommendations,
    replay,
    schema,
    soak,
    state,
    topics,
    train,
    worker,
)
from recsys.commands.common import Commands, Options

app = typer.Typer(
    name="recsys",
    cls=Commands,
    help="A recommender over Kafka: produce events, follow recommendations, replay logs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"recsys {__version__}")
        raise typer.Exit


@app.callback()
def options(
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Settings file, if not ./recsys.toml.")
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the libraries' logs.")
    ] = False,
    _show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """What holds for every command."""
    Options(config_file, debug).apply()


app.command("worker")(worker.worker)
app.command("demo")(worker.demo)
app.command("produce")(produce.produce)
app.command("replay")(replay.replay)
app.command("recommendations")(recommendations.recommendations)
app.command("evaluate")(evaluate.evaluate)
app.command("state")(state.state)
app.command("forget")(forget.forget)
app.command("promote")(promote.promote)
app.command("soak")(soak.soak)
app.command("schema")(schema.schema)
app.command("config")(config.config)
app.command("upload")(images.upload)
app.command("pictures")(images.pictures)
app.command("similar")(images.similar)
app.add_typer(images.index_app, name="index")
app.add_typer(train.app, name="train")
app.add_typer(topics.app, name="topics")
app.add_typer(broker.app, name="broker")


def main() -> None:
    """Run the command that `sys.argv` names."""
    app(prog_name="recsys")
