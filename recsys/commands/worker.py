"""`recsys worker` and `recsys demo`: hand over to the composition roots."""

import os
from typing import Annotated

import typer

from recsys.commands.common import settings


def worker(
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help="behaviour, items or images; may be repeated. Default: all."),
    ] = None,
) -> None:
    """Run a worker until SIGTERM: learn from every event and write ranked lists."""
    given = settings(worker={"roles": roles}) if roles else settings()
    # A list's products are too small to share among threads; numpy reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from recsys import worker as composition

    raise typer.Exit(composition.run(given, given.worker.roles))


def demo() -> None:
    """Show it all at once: broker, topics, worker, a real log replayed, lists as they change."""
    given = settings()
    from recsys import demo as composition

    raise typer.Exit(composition.run(given))
