"""`recsys replay`: a file, a topic or the dead letters, sent once more."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from recsys.commands.common import (
    FAILURE,
    INTERRUPTED,
    CommandError,
    JsonOption,
    connection,
    parse_fields,
    print_json,
    print_table,
    progress_bar,
    run,
    say,
    settings,
)
from recsys.commands.produce import LimitOption, MapOption, OptionalFile, TimeUnitOption, open_log
from recsys.settings import Settings

if TYPE_CHECKING:
    from recsys.forgotten import Forgotten
    from streams.connection import Connection
    from streams.topics import Topic

KEPT_SHOWN = 20
FITTING = {  # what is replayed, and the options that go with it
    "--dlq": {"--topic", "--set", "--reason", "--dry-run"},
    "--shadow": set[str](),
    "--topic": {"--from-offset", "--from-time", "--speed", "--sort", "--prefix", "--limit",
                "--dry-run"},
    "a FILE": {"--speed", "--sort", "--prefix", "--map", "--time-unit", "--limit", "--dry-run"},
}  # fmt: skip


def replay(
    file: OptionalFile = None,
    topic: Annotated[
        str | None, typer.Option(help="Replay a topic instead of a file, e.g. recsys.behaviour.v1.")
    ] = None,
    from_offset: Annotated[
        int | None, typer.Option(min=0, help="Begin at this offset of each partition.")
    ] = None,
    from_time: Annotated[
        str | None, typer.Option(help="Begin at this Kafka time: RFC 3339 or milliseconds.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=1e-6, help="So many times the events' own pace; else as fast as it goes."),
    ] = None,
    by_time: Annotated[
        bool, typer.Option("--sort", help="In the order of the events' times (kept in memory).")
    ] = False,
    prefix: Annotated[
        str | None, typer.Option(help="A shadow run: into the topics under another prefix.")
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="GENERATION",
            help="Rebuild a new generation beside the live one, and compare the two.",
        ),
    ] = None,
    dlq: Annotated[
        bool, typer.Option("--dlq", help="Send dead letters back; each goes back once.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="field=value", help="Mend a field of each dead letter."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only dead letters of this reason, e.g. timestamp.")
    ] = None,
    mapping: MapOption = "",
    time_unit: TimeUnitOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing, only report.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay a behaviour log (FILE), a stretch of a topic (--topic), or dead letters (--dlq).

    Into the live topics, or with --prefix into topics of a shadow run, which must exist. Columns
    and units are told as in `recsys produce`.
    """
    _refuse_misfits({
        "--dlq": dlq, "--shadow": shadow, "--topic": topic, "a FILE": file,
        "--from-offset": from_offset, "--from-time": from_time, "--speed": speed, "--sort": by_time,
        "--prefix": prefix, "--set": changes, "--reason": reason, "--map": mapping,
        "--time-unit": time_unit, "--limit": limit, "--dry-run": dry_run,
    })  # fmt: skip
    given = settings()
    if dlq:
        _dead_letters(given, topic, parse_fields(changes or []), reason, dry_run, as_json)
        return
    if shadow is not None:
        _shadow(settings(generation=shadow), as_json)
        return
    target = settings(prefix=prefix) if prefix is not None else given
    if file is not None:
        _file(target, open_log(file, mapping, time_unit), speed, by_time, limit, dry_run, as_json)
    else:
        assert topic is not None
        start_ms = _time_ms(from_time) if from_time is not None else None
        _topic(target, topic, from_offset, start_ms, speed, by_time, limit, dry_run, as_json)


def _refuse_misfits(options: dict[str, Any]) -> None:
    """What is replayed decides which other options mean anything; none is ignored."""
    said = [
        name for name, value in options.items()
        if not (value is None or value is False or value in ("", []))
    ]  # fmt: skip
    mode = next((name for name in FITTING if name in said), None)
    both = {"--topic", "a FILE"} <= set(said) and "--dlq" not in said and "--shadow" not in said
    if mode is None or both:
        raise typer.BadParameter("say what to replay: a FILE, --topic, --shadow or --dlq")
    misfits = [name for name in said if name != mode and name not in FITTING[mode]]
    if misfits:
        raise typer.BadParameter(f"{mode} goes without {', '.join(misfits)}")


def _shadow(mine: Settings, as_json: bool) -> None:
    """Read the whole log into a generation's own topics; then say how it differs."""
    from recsys.shadow import compare, live_generation, rebuild
    from recsys.worker import configure_logging

    generation = mine.generation

    async def work() -> Any:
        live = await live_generation(mine)
        if live == generation:
            raise CommandError(f"{generation} writes the live lists: it can not be its own shadow")
        with progress_bar(None, shown=not as_json) as update:
            await rebuild(mine, lambda done, waiting: update(done, f"{done} records"))
        return live, await compare(mine, live)

    configure_logging()
    live, told = run(work())
    if as_json:
        print_json({"generation": generation, "live": live, **told.as_json()})
        return
    print_table(f"{generation} beside {live}", told.lanes, ["lane", "same_events", "digests_equal"])
    users = told.users
    if len(set(told.lane_counts.values())) > 1:
        counts = " and ".join(f"{name} has {count}" for name, count in told.lane_counts.items())
        say(f"{counts} lanes: none is another's like, so all users are compared as one set.")
    say(f"User records: {users['records_equal']} of {users['records_compared']} are the same.")
    say(f"Counts of items are {'the same' if told.items_equal else 'not the same'}.")
    for name, each in told.quality.items():
        say(f"{name}: {each['hits']} hits of {each['answers']}, hit rate {each['hit_rate']}")


def _file(
    target: Settings,
    log: Any,
    speed: float | None,
    by_time: bool,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from recsys.commands.feed import feed
    from streams import topics

    if not as_json:
        for note in log.notes:
            say(note)
    name = topics.BEHAVIOUR.name(target.prefix)
    report = run(
        feed(
            target, name, log, quiet=as_json, speed=speed, by_time=by_time, limit=limit,
            dry_run=dry_run,
        )
    )  # fmt: skip
    if as_json:
        print_json({**report.as_json(), "notes": log.notes})
    else:
        report.tell()
    if report.stopped:
        raise typer.Exit(INTERRUPTED)
    if report.damaged or (report.refused and not report.sent):
        raise typer.Exit(FAILURE)


def _topic(
    target: Settings,
    source: str,
    from_offset: int | None,
    from_time_ms: int | None,
    speed: float | None,
    by_time: bool,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from streams import topics

    if from_offset is not None and from_time_ms is not None:
        raise typer.BadParameter("--from-offset or --from-time, not both")
    # What lanes keep lies where its lane looks for it, so it is no input of another run.
    known = next(
        (t for t in topics.TOPICS if source.endswith("." + t.suffix) and t.encoding != "binary"),
        None,
    )
    if known is None:
        raise typer.BadParameter(
            f"{source} is none of the topics that can be replayed; they are "
            + ", ".join(t.suffix for t in topics.TOPICS if t.public)
            + ", each behind a prefix"
        )
    name = known.name(target.prefix)
    if name == source:
        raise typer.BadParameter(
            f"{source} into itself would count everything twice: say --prefix for a shadow run"
        )
    sent, stopped = run(
        _send_topic(
            target,
            known,
            source,
            name,
            from_offset,
            from_time_ms,
            speed,
            by_time,
            limit,
            dry_run,
            as_json,
        )
    )
    if as_json:
        told = {"topic": name, "source": source, "sent": sent, "dry_run": dry_run}
        print_json({**told, "stopped": stopped})
    elif stopped:
        say(f"stopped: {sent} records of {source} sent to {name}.")
    else:
        verb = "would be sent" if dry_run else "sent"
        say(f"{sent} records of {source} {verb} to {name}.")
    if stopped:
        raise typer.Exit(INTERRUPTED)


async def _send_topic(
    target: Settings,
    topic: "Topic",
    source: str,
    name: str,
    from_offset: int | None,
    from_time_ms: int | None,
    speed: float | None,
    by_time: bool,
    limit: int | None,
    dry_run: bool,
    quiet: bool,
) -> tuple[int, bool]:
    """How many records were sent, and whether Ctrl-C stopped it."""
    from streams.producer import BatchProducer
    from streams.replay import Pace, again, read_topic, until_due

    there = connection(target)
    former = source.removesuffix(f".{topic.suffix}")
    forgotten = await _forgotten(
        there, former, target.prefix, target.events.future_ms_max, dry_run=dry_run
    )
    patience_s = target.worker.broker_timeout_s
    read = read_topic(
        there, source, from_offset=from_offset, from_time_ms=from_time_ms, patience_s=patience_s
    )
    if dry_run:
        counts = [
            sum(not forgotten.covers_record(topic, record) for record in records)
            async for records in read
        ]
        return min(sum(counts), limit or sys.maxsize), False
    pace, stopped = Pace(speed), False
    async with BatchProducer(there, name, patience_s) as producer:
        try:
            with progress_bar(None, shown=not quiet) as update:
                taken = 0
                async for record in _in_order(read, by_time or speed is not None):
                    if taken == limit:
                        break
                    if forgotten.covers_record(topic, record):
                        continue
                    if speed is not None:
                        await until_due(producer, pace, record.timestamp)
                    if producer.add(*again(record)):
                        await producer.send_full()
                        update(taken, f"{taken} records")
                    taken += 1
            await producer.flush()
        except asyncio.CancelledError:  # Ctrl-C: what was read is sent, and counted
            stopped = True
            await producer.flush()
        return producer.acknowledged, stopped


async def _forgotten(
    there: "Connection", prefix: str, target: str, future_ms_max: int, *, dry_run: bool
) -> "Forgotten":
    """Who asked to be forgotten; a shadow run must know it as well, so it gets the same log."""
    from recsys.forgotten import Forgotten
    from streams import topics
    from streams.producer import BatchProducer
    from streams.replay import read_topic

    forgotten = Forgotten(future_ms_max)
    records = [
        record async for chunk in read_topic(there, topics.FORGET.name(prefix)) for record in chunk
    ]
    forgotten.load(records)
    if records and target != prefix and not dry_run:
        async with BatchProducer(there, topics.FORGET.name(target)) as producer:
            for record in records:
                producer.add(record.key, record.value, timestamp_ms=record.timestamp)
    return forgotten


async def _in_order(read: AsyncIterator[list[Any]], by_time: bool) -> AsyncIterator[Any]:
    if by_time:
        # Partitions come one beside the other: only sorting brings them into one order.
        records = [record async for chunk in read for record in chunk]
        for record in sorted(records, key=lambda record: record.timestamp):
            yield record
        return
    async for chunk in read:
        for record in chunk:
            yield record


def _dead_letters(
    given: Settings,
    topic: str | None,
    changes: dict[str, Any],
    reason: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from streams import topics
    from streams.codec import REASONS
    from streams.repair import send_back

    name = (topic or topics.BEHAVIOUR.name(given.prefix)).removesuffix(".dlq")
    found = next(
        (t for t in topics.TOPICS if t.dead_letters and t.name(given.prefix) == name), None
    )
    if found is None:
        raise typer.BadParameter(f"{name} has no dead letters under the prefix {given.prefix}")
    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(f"{reason!r} is no reason; they are {', '.join(REASONS)}")
    known = _fields(found)
    if strange := [field for field in changes if field not in known]:
        they = f"they are {', '.join(known)}" if known else "its bodies are not mended"
        raise typer.BadParameter(f"{strange[0]!r} is no field of {name}; {they}")
    outcome = run(
        send_back(
            connection(given), found, given.prefix, given.application, changes=changes,
            reason=reason, future_ms_max=given.events.future_ms_max, dry_run=dry_run,
        )
    )  # fmt: skip
    rows = [
        {"letter": place, "reason": e.reason, "field": e.field, "why": e.message}
        for place, e in outcome.kept
    ]
    if as_json:
        print_json(
            {
                "topic": name,
                "sent": outcome.sent,
                "already_sent": outcome.already_sent,
                "other_reason": outcome.other_reason,
                "kept": rows,
                "dry_run": dry_run,
            }
        )
        return
    verb = "would go back" if dry_run else "went back"
    say(
        f"{outcome.sent} dead letters {verb} to {name}; {outcome.already_sent} had been sent "
        f"before, {len(outcome.kept)} still can not be read."
    )
    if rows:
        print_table("", rows[:KEPT_SHOWN], ["letter", "reason", "field", "why"])


def _fields(topic: "Topic") -> tuple[str, ...]:
    """The fields of a topic's bodies that `--set` can mend."""
    if topic.encoding != "json" or topic.struct is None:
        return ()
    return tuple(field.encode_name for field in msgspec.structs.fields(topic.struct))


def _time_ms(text: str) -> int:
    from streams.events import TIMESTAMP_MS_MAX

    if text.isdigit():
        return min(int(text), TIMESTAMP_MS_MAX)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither RFC 3339 nor milliseconds") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
