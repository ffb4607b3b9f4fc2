"""`recsys soak`: break workers, brokers and the network on purpose, and account for every event."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.commands.common import FAILURE, JsonOption, print_json, print_table, run, say

if TYPE_CHECKING:
    from recsys.soak.table import Report


def soak(
    share: Annotated[
        float, typer.Option(min=0.01, max=100, help="How much of the full plan; 1 is 100 kills.")
    ] = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this part of the plan, as kills or cuts; may be repeated."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Instead: break what chance says for so long.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Records a second, with --minutes.")] = 100.0,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Lanes, else 4; from 8 on they make lists together."),
    ] = None,
    seed: Annotated[int, typer.Option(help="What is broken when, and what is sent.")] = 1,
    table: Annotated[
        Path | None, typer.Option(help="Write the table to this Markdown file too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Break workers, brokers and the network on purpose; every event must count once.

    It starts Kafka by itself (KAFKA_HOME, else the local one), never uses RECSYS_BROKER, and
    exits with 1 where anything was lost or doubled, or did not recover.
    """
    from recsys.soak import run as composition
    from recsys.soak.shop import PARTITIONS
    from recsys.soak.table import Report

    lanes = partitions or PARTITIONS
    # Clients of a broker that is being broken say so, for pages.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    report = Report()
    if minutes is None:
        try:
            plan = composition.Plan().scaled(share, only or ())
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--only") from error
        work = composition.run(plan, seed, say, report, lanes)
        chosen = "".join(f" --only {name}" for name in only or ())
        command = f"recsys soak --share {share:g} --seed {seed}{chosen}"
    else:
        work = composition.run_for(minutes, rate, seed, say, report, lanes)
        command = f"recsys soak --minutes {minutes:g} --rate {rate:g} --seed {seed}"
    if partitions is not None:
        command += f" --partitions {partitions}"
    try:
        run(work)
    finally:
        if report.rows:
            _show(report, command, table, as_json)
    if not report.holds:
        raise typer.Exit(FAILURE)


def _show(report: "Report", command: str, table: Path | None, as_json: bool) -> None:
    from recsys.soak.table import as_document, as_rows

    rows = as_rows(report)
    if as_json:
        print_json({"command": command, "holds": report.holds, "faults": rows,
                    "findings": report.findings, "memory_mb": report.memory_mb,
                    "drained_s": report.drained_s})  # fmt: skip
    else:
        print_table("Faults", rows, list(rows[0]))
    if table is not None:
        table.write_text(as_document(report, command), "utf-8")
