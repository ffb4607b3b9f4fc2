"""`recsys forget`: remove all that is kept of a user."""

import time
from typing import Annotated

import typer

from recsys.commands.common import JsonOption, print_json, run, say, settings
from recsys.settings import Settings


def forget(
    user: Annotated[str, typer.Option(help="Whom to forget.")],
    as_json: JsonOption = False,
) -> None:
    """Forget a user: state, history, photos, waiting lists, and every event of theirs until now.

    The workers do it; what they did holds after a restore and after a replay of the old log. Events
    from now on are learned afresh.
    """
    given = settings()
    now_ms = time.time_ns() // 1_000_000
    kept = run(_write(given, user, now_ms))
    if as_json:
        print_json({"user_id": user, "timestamp": now_ms, "days_until_deleted": kept})
        return
    say(f"{user} is forgotten as of now; the workers remove what is kept of them.")
    for name, days in kept.items():
        say(f"Records in {name} that are theirs go after {days} days at most.")


async def _write(given: Settings, user: str, now_ms: int) -> dict[str, int]:
    """The topics where records of the user's stay, and for how many days."""
    from recsys.wanted import find_wanted
    from streams import codec, topics
    from streams.events import ForgetUser
    from streams.producer import BatchProducer

    codec.check_id("user", user)
    record = codec.encode(ForgetUser(user_id=user, timestamp=now_ms))
    name, patience_s = topics.FORGET.name(given.prefix), given.worker.broker_timeout_s
    async with BatchProducer(given.connection(), name, patience_s) as producer:
        producer.add(user.encode(), record)
    return {
        each.name: int(each.configs["retention.ms"]) // topics.DAY_MS
        for each in await find_wanted(given)
        if each.keyed == "user" and "retention.ms" in each.configs
    }
