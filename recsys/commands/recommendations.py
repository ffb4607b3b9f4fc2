"""`recsys recommendations`: follow the ranked lists, or show one user's newest."""

import asyncio
import sys
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from recsys.commands.common import (
    CommandError,
    JsonOption,
    connection,
    print_json,
    print_json_line,
    print_table,
    printable,
    run,
    say,
    settings,
)
from recsys.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from streams.events import RankedList

LISTS_SHOWN = 12
ITEMS_SHOWN = 5
POLL_MS = 250


def recommendations(
    user: Annotated[str | None, typer.Option(help="Show this user's newest list.")] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="With --user: wait so many seconds for one.")
    ] = 0,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Follow from the oldest list that is kept.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many lists.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow the ranked lists as they are written (Ctrl-C ends it), or show one user's newest.

    Only what was committed is shown. With --json a followed list is a line of its own, and so it is
    where standard output is no terminal.
    """
    given = settings()
    if user is not None:
        run(_newest(given, user, wait_s, as_json))
        return
    try:
        run(_follow(given, from_start, limit, as_json))
    except KeyboardInterrupt:
        return


async def _newest(given: Settings, user: str, wait_s: float, as_json: bool) -> None:
    from streams import topics
    from streams.newest import newest_record

    deadline_s = time.monotonic() + wait_s
    topic = topics.RECOMMENDATIONS.name(given.prefix)
    while True:
        record = await newest_record(connection(given), topic, user.encode())
        if record is not None or time.monotonic() >= deadline_s:
            break
        await asyncio.sleep(POLL_MS / 1000)
    if record is None or record.value is None:
        raise CommandError(f"there is no list for user {user} in {topic}")
    ranked = _decode(record.value)
    if as_json:
        print_json(msgspec.to_builtins(ranked))
        return
    rows = [msgspec.to_builtins(item) for item in ranked.items]
    when = _clock(ranked.produced_time)
    title = f"{user} at {when}, after {ranked.trigger.kind} {_place(ranked)}"
    print_table(title, rows, ["rank", "item_id", "score", "sources", "reason"])


async def _follow(given: Settings, from_start: bool, limit: int | None, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from streams import topics
    from streams.replay import open_reader, partitions_of
    from streams.silence import Silence, told

    topic = topics.RECOMMENDATIONS.name(given.prefix)
    shown: deque[RankedList] = deque(maxlen=LISTS_SHOWN)
    taken, silence, patience_s = 0, Silence(), given.worker.broker_timeout_s
    async with open_reader(connection(given)) as consumer:
        tps = await partitions_of(consumer, topic)
        consumer.assign(tps)
        places = await (
            consumer.beginning_offsets(tps) if from_start else consumer.end_offsets(tps)
        )
        for tp, offset in places.items():
            consumer.seek(tp, offset)
        if not as_json:
            say(f"Following {topic}; Ctrl-C ends it.")
        # What redraws itself shows nothing in a file or a pipe: there each list is a line.
        moving = sys.stdout.isatty() and not as_json
        live = Live(console=Console(), auto_refresh=False) if moving else None
        with live or _Nothing():
            while limit is None or taken < limit:
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=limit)
                if silence.seconds(consumer) > patience_s:
                    raise CommandError(told(patience_s, given.broker))
                records = [record for records in fetched.values() for record in records]
                for record in records[: None if limit is None else limit - taken]:
                    ranked = _decode(record.value)
                    taken += 1
                    if as_json:
                        print_json_line(msgspec.to_builtins(ranked))
                    elif live is None:
                        typer.echo("  ".join(_cells(ranked)))
                    else:
                        shown.append(ranked)
                if records and live is not None:
                    live.update(_table(shown, taken), refresh=True)


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def _decode(value: bytes) -> "RankedList":
    from streams.events import RankedList

    return msgspec.json.decode(value, type=RankedList)


def _table(lists: "deque[RankedList]", count: int) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{count} lists", title_justify="left", header_style="bold")
    for column in ("time", "user", "after", "items", "because"):
        table.add_column(column)
    for ranked in lists:
        table.add_row(*map(Text, _cells(ranked)))
    return table


def _cells(ranked: "RankedList") -> tuple[str, ...]:
    best = ranked.items[:ITEMS_SHOWN]
    return (
        _clock(ranked.produced_time),
        ranked.user_id,
        ranked.trigger.kind,
        " ".join(item.item_id for item in best),
        printable(best[0].reason) if best else "",
    )


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _place(ranked: Any) -> str:
    trigger = ranked.trigger
    return f"{trigger.topic}/{trigger.partition}/{trigger.offset}"
