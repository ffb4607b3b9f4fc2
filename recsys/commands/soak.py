"""`recsys soak`: break workers, brokers and the network on purpose, and account for every event."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.common import FAILURE, JsonOption, print_json, print_table, run, say


def soak(
    share: Annotated[
        float, typer.Option(min=0.01, max=100, help="How much of the full plan; 1 is 100 kills.")
    ] = 1.0,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Instead: break what chance says for so long.")
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

    if minutes is None:
        report = run(composition.run(composition.Plan().scaled(share), seed, say))
    else:
        report = run(composition.run_for(minutes, seed, say))
    rows = composition.as_rows(report)
    if as_json:
        print_json({"seed": seed, "holds": report.holds, "faults": rows,
                    "findings": report.findings, "memory_mb": report.memory_mb})  # fmt: skip
    else:
        print_table("Faults", rows, list(rows[0]))
    if table is not None:
        given = f"--minutes {minutes:g}" if minutes is not None else f"--share {share:g}"
        command = f"recsys soak {given} --seed {seed}"
        table.write_text(composition.as_document(report, command), "utf-8")
    if not report.holds:
        raise typer.Exit(FAILURE)
