"""`recsys config`: the effective settings."""

from typing import Annotated

import typer

from recsys.commands.common import JsonOption, print_json, settings
from recsys.settings_text import effective, template, toml_value


def config(
    as_json: JsonOption = False,
    show_template: Annotated[
        bool, typer.Option("--template", help="Print a recsys.toml with every default instead.")
    ] = False,
) -> None:
    """Print the effective settings (defaults, then recsys.toml, then RECSYS_*), secrets masked."""
    if show_template:
        typer.echo(template(), nl=False)
        return
    values = effective(settings())
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        if not isinstance(value, dict):
            typer.echo(f"{name} = {toml_value(value)}")
    for name, value in values.items():
        if isinstance(value, dict):
            typer.echo(f"\n[{name}]")
            for inner, each in value.items():
                typer.echo(f"{inner} = {toml_value(each)}")
