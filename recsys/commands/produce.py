"""`recsys produce FILE`: events or products from a file onto their topic."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from recsys.commands.common import FAILURE, INTERRUPTED, JsonOption, print_json, run, say, settings

_FILE = typer.Argument(
    metavar="FILE", exists=True, dir_okay=False, readable=True,
    help="CSV, TSV, JSON Lines or RecBole .inter, each also gzipped, or Parquet.",
)  # fmt: skip
FileArgument = Annotated[Path, _FILE]
OptionalFile = Annotated[Path | None, _FILE]
MapOption = Annotated[
    str,
    typer.Option(
        "--map", metavar="field=COLUMN,...",
        help="Which column holds which field; after a colon a constant, as in type=:view. "
        "What is left out is found by the columns' names.",
    ),
]  # fmt: skip
TimeUnitOption = Annotated[
    Literal["s", "ms", "us", "ns", "iso"] | None,
    typer.Option("--time-unit", help="Unit of the timestamps; told from the values if not given."),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many events.", show_default="all")
]


def produce(
    file: FileArgument,
    mapping: MapOption = "",
    time_unit: TimeUnitOption = None,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="The file holds products, for the catalogue.")
    ] = False,
    limit: LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, send nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every line of a file and send the good ones; refused lines are told by number.

    Without an event_id of its own an event gets one from the file's digest and its line: a repeat
    is noticed within the user's last 16 events, so a whole file sent again counts again. Exits
    with 1 where nothing could be sent.
    """
    from recsys.commands.feed import feed
    from streams import topics

    given = settings()
    log = open_log(file, mapping, time_unit, catalogue)
    if not as_json:
        for note in log.notes:
            say(note)
    topic = (topics.CATALOGUE if catalogue else topics.BEHAVIOUR).name(given.prefix)
    report = run(feed(given, topic, log, quiet=as_json, limit=limit, dry_run=dry_run))
    if as_json:
        print_json({**report.as_json(), "notes": log.notes})
    else:
        report.tell()
    if report.stopped:
        raise typer.Exit(INTERRUPTED)
    if report.damaged or (report.refused and not report.sent):
        raise typer.Exit(FAILURE)


def open_log(file: Path, mapping: str, time_unit: Any, catalogue: bool = False) -> Any:
    """The file as rows of events, or of products. Wrong usage exits with 2."""
    from recsys.log import BehaviourLog
    from recsys.log_columns import EVENT_COLUMNS, PRODUCT_COLUMNS, parse_mapping
    from recsys.log_sources import LogError
    from recsys.product_log import ProductLog

    try:
        fields = parse_mapping(mapping, PRODUCT_COLUMNS if catalogue else EVENT_COLUMNS)
        return ProductLog(file, fields) if catalogue else BehaviourLog(file, fields, time_unit)
    except LogError as error:
        raise typer.BadParameter(str(error)) from None
