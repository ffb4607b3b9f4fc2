"""`recsys broker`: a local Apache Kafka, pinned and verified, that outlives the command."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.commands.common import FAILURE, JsonOption, print_json, say

if TYPE_CHECKING:
    from streams.detached_kafka import DetachedKafka

app = typer.Typer(help="Start, show and stop a local Apache Kafka.", no_args_is_help=True)


@app.command()
def start(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to try first; another if it is taken.")
    ] = 9092,
    as_json: JsonOption = False,
) -> None:
    """Start it, or tell of the one that runs. The jars come once, and are checked."""
    from streams import detached_kafka
    from streams.broker import find_runtime

    running = detached_kafka.start(find_runtime(os.environ, not as_json), port=port)
    _print(running, as_json)


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the one that runs; 1 where none does."""
    from streams import detached_kafka

    running = detached_kafka.show()
    _print(running, as_json)
    if running is None:
        raise typer.Exit(FAILURE)


@app.command()
def stop(
    remove_data: Annotated[
        bool, typer.Option("--remove-data", help="Delete its topics and logs too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop it; its data stay for the next start."""
    from streams import detached_kafka

    stopped = detached_kafka.stop(remove_data=remove_data)
    if as_json:
        print_json({"stopped": stopped})
    else:
        say("Stopped." if stopped else "No local Kafka was running.")


def _print(running: "DetachedKafka | None", as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {"running": running is not None}
        print_json(shown | (asdict(running) if running else {}))
    elif running is None:
        say("No local Kafka is running: recsys broker start")
    else:
        typer.echo(running.bootstrap)
        say(f"{running.origin}, process {running.pid}, data and log in {running.folder}")
        if not running.bootstrap.endswith(":9092"):
            say(f"It is not at port 9092: export RECSYS_BROKER={running.bootstrap}")
