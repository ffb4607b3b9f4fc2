"""`recsys schema`: the contract as JSON Schema and AsyncAPI."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.common import CommandError, say, settings


def schema(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder to write schema/*.json, asyncapi.json and reference.md into."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Print the JSON Schema of one topic, e.g. behaviour.v1.")
    ] = None,
) -> None:
    """Print the AsyncAPI document, print one topic's JSON Schema, or write all of them."""
    from streams import schema as documents

    if topic is not None:
        schemas = documents.message_schemas()
        if topic not in schemas:
            raise CommandError(f"no message schema for {topic!r}; there are {', '.join(schemas)}")
        typer.echo(documents.as_text(schemas[topic]), nl=False)
    elif folder is not None:
        from recsys.reference import page

        files = documents.write(folder)
        files.append(folder / "reference.md")
        files[-1].write_text(page(), encoding="utf-8")
        for path in files:
            say(f"wrote {path}")
    else:
        given = settings()
        typer.echo(
            documents.as_text(
                documents.asyncapi(given.prefix, given.partitions, given.item_partitions)
            ),
            nl=False,
        )
