"""`recsys topics`: make them, list them, say where they differ from what is wanted."""

from typing import TYPE_CHECKING, Annotated

import typer

from recsys.commands.common import (
    FAILURE,
    JsonOption,
    connection,
    print_json,
    print_table,
    run,
    say,
    settings,
)
from recsys.settings import MAIN, Settings

if TYPE_CHECKING:
    from streams.admin import Difference, FoundTopic, WantedTopic

app = typer.Typer(help="Create, list and check the topics.", no_args_is_help=True)


@app.command()
def create(as_json: JsonOption = False) -> None:
    """Create the topics that are not there yet; then check all of them."""
    from streams import admin

    given = settings()

    async def work() -> tuple[list["WantedTopic"], list[str], list["Difference"]]:
        there, wanted = connection(given), await _wanted(given)
        created = await admin.create_topics(there, wanted)
        found = await admin.find_topics(there, [each.name for each in wanted])
        return wanted, created, admin.differences(wanted, found)

    wanted, created, told = run(work())
    if as_json:
        print_json({"created": created, "differences": _plain(told)})
    else:
        say(f"{len(created)} topics created, {len(wanted) - len(created)} were there already.")
        _tell(told)
    _exit(told)


@app.command(name="list")
def list_topics(as_json: JsonOption = False) -> None:
    """List the topics: whether they exist, their partitions, keys and what they hold."""
    from streams import admin

    given = settings()
    wanted, found = run(_wanted_and_found(given))
    rows = admin.as_rows(wanted, found)
    if as_json:
        print_json(rows)
    else:
        columns = ["topic", "exists", "partitions", "replication", "cleanup", "key", "about"]
        print_table(f"Topics on {given.broker}", rows, columns)


@app.command()
def check(as_json: JsonOption = False) -> None:
    """Say where the topics differ from what is wanted; 1 where that hinders a worker."""
    from streams import admin

    wanted, found = run(_wanted_and_found(settings()))
    told = admin.differences(wanted, found)
    if as_json:
        print_json({"differences": _plain(told)})
    else:
        _tell(told)
        if not told:
            say(f"All {len(wanted)} topics are as they should be.")
    _exit(told)


@app.command()
def acls(
    role: Annotated[
        list[str] | None, typer.Option(help="Only these roles; default: all of them.")
    ] = None,
    principal: Annotated[
        str | None,
        typer.Option(help="Print the arguments of kafka-acls.sh for it, e.g. User:recsys."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the least that a broker's authorizer must allow a worker, by its roles.

    For a generation other than main the broker is asked whether it needs a mirror.
    """
    from recsys.acls import READS, permissions
    from recsys.wanted import live_partitions

    given = settings()
    for name in role or ():
        if name not in READS:
            raise typer.BadParameter(f"{name} is no role; they are {', '.join(READS)}")
    partitions = None if given.generation == MAIN else run(live_partitions(given))
    rules = permissions(given, role or given.worker.roles, partitions)
    rows = [
        {
            "resource": rule.resource,
            "name": rule.name,
            "pattern": "prefixed" if rule.prefixed else "literal",
            "operation": rule.operation,
        }
        for rule in rules
    ]
    if as_json:
        print_json(rows)
    elif principal is not None:
        for rule in rules:
            typer.echo(rule.command(principal))
    else:
        print_table("What a worker needs", rows, ["operation", "resource", "name", "pattern"])


async def _wanted(given: Settings) -> list["WantedTopic"]:
    from recsys.wanted import find_wanted

    return await find_wanted(given)


async def _wanted_and_found(
    given: Settings,
) -> tuple[list["WantedTopic"], dict[str, "FoundTopic"]]:
    from streams import admin

    wanted = await _wanted(given)
    return wanted, await admin.find_topics(connection(given), [each.name for each in wanted])


def _plain(told: list["Difference"]) -> list[dict[str, str]]:
    return [
        {"topic": each.topic, "severity": each.severity, "sentence": each.sentence} for each in told
    ]


def _tell(told: list["Difference"]) -> None:
    for each in told:
        say(f"{each.severity}: {each.sentence}")


def _exit(told: list["Difference"]) -> None:
    if any(each.severity == "error" for each in told):
        raise typer.Exit(FAILURE)
