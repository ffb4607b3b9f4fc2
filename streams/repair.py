"""Sending dead letters back, mended where asked: each once, however often it is run.

A letter and the mark that it was sent back are written in one transaction; marked ones are skipped.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streams import codec, dead_letters
from streams.chunk import Position, Record
from streams.codec import DecodeError
from streams.connection import Connection
from streams.dead_letters import DeadLetter
from streams.fitted import fits
from streams.partition import partition_of
from streams.replay import ReplayError, open_reader, partitions_of, read_topic
from streams.topics import Topic, dead_letter_name
from streams.transaction import (
    LaneFencedError,
    LaneProducer,
    LaneRefusedError,
    TransactionUncertainError,
)
from streams.unconnected import why

LETTERS_A_TRANSACTION = 1000
SETTLED_S_MAX = 20.0  # a killed lane's transaction is open for ten seconds
ASK_AGAIN_S = 0.2


@dataclass
class Repair:
    """What became of the dead letters: how many went back, and which stay, with why."""

    sent: int = 0
    already_sent: int = 0
    other_reason: int = 0
    kept: list[tuple[str, DecodeError]] = field(default_factory=list)

    def kept_by_reason(self) -> dict[str, int]:
        """How many stay, by reason."""
        return dict(Counter(error.reason for _, error in self.kept))


async def send_back(
    connection: Connection,
    topic: Topic,
    prefix: str,
    application: str,
    *,
    changes: Mapping[str, Any] | None = None,
    reason: str | None = None,
    future_ms_max: int,
    dry_run: bool = False,
) -> Repair:
    """Mend the dead letters of a topic and send back those that can be read then.

    `changes` sets fields of the body (None removes one); a key that was refused becomes the id
    that the body holds. Letters of another `reason` are left. Raises ReplayError.
    """
    source = topic.name(prefix)
    producer = LaneProducer(connection, f"{application}-dead-letters-{topic.suffix}")
    try:
        # Taking the id over ends what an earlier run left open: its marks are seen below.
        await producer.start()
        await _settled(connection, dead_letter_name(source))
        letters, marks = await _read(connection, dead_letter_name(source))
        outcome = Repair()
        ready: list[tuple[ConsumerRecord, Record]] = []
        for letter in letters:
            mended = _sort(letter, marks, topic, changes or {}, reason, future_ms_max, outcome)
            if mended is not None:
                ready.append((letter, mended))
        if ready and not dry_run:
            await _send(connection, producer, source, ready)
        outcome.sent = len(ready)
        return outcome
    except (KafkaError, OSError) as error:
        raise ReplayError(f"no Kafka answers at {connection.bootstrap}: {why(error)}") from error
    except LaneRefusedError as error:
        raise ReplayError(str(error)) from error
    except (LaneFencedError, TransactionUncertainError) as error:
        raise ReplayError(f"not all dead letters went back, run it again: {error}") from error
    finally:
        await producer.stop()


def _sort(
    record: ConsumerRecord,
    marks: set[str],
    topic: Topic,
    changes: Mapping[str, Any],
    reason: str | None,
    future_ms_max: int,
    outcome: Repair,
) -> Record | None:
    """The record to send for a dead letter; else None, and the outcome tells why."""
    place = f"{record.partition}/{record.offset}"
    if place in marks:
        outcome.already_sent += 1
        return None
    try:
        letter = dead_letters.parse(record)
        if reason is not None and letter.reason != reason:
            outcome.other_reason += 1
            return None
        mended = _mend(letter, topic, changes)
        _check(topic, record, mended, future_ms_max)
    except DecodeError as error:
        outcome.kept.append((place, error))
        return None
    return mended


async def _settled(connection: Connection, topic: str) -> None:
    """Wait for open transactions of others: marks that lie behind one cannot be read.

    Raises ReplayError where one stays open.
    """
    until = time.monotonic() + SETTLED_S_MAX
    async with open_reader(connection) as stable, open_reader(connection, committed=False) as all_:
        tps = await partitions_of(stable, topic)
        ends = await all_.end_offsets(tps)
        while any(stop < ends[tp] for tp, stop in (await stable.end_offsets(tps)).items()):
            if time.monotonic() > until:
                raise ReplayError(f"a transaction is open on {topic}: try again in a minute")
            await asyncio.sleep(ASK_AGAIN_S)


async def _read(connection: Connection, topic: str) -> tuple[list[ConsumerRecord], set[str]]:
    letters, marks = [], set()
    async for records in read_topic(connection, topic):
        for record in records:
            mark = dead_letters.resolves(record)
            if mark is None:
                letters.append(record)
            else:
                marks.add(mark)
    return letters, marks


def _mend(letter: DeadLetter, topic: Topic, changes: Mapping[str, Any]) -> Record:
    record = letter.resend(letter.value)
    if topic.encoding != "json" or not (changes or letter.reason == "key"):
        return record
    try:
        fields = json.loads(letter.value or b"")
    except (ValueError, RecursionError):
        raise DecodeError("not-json", "body", "is not JSON, so that no field can be set") from None
    if not isinstance(fields, dict):
        raise DecodeError("type", "body", "is not a JSON object")
    if changes:
        merged = {**fields, **changes}
        fields = {name: value for name, value in merged.items() if value is not None}
        record = record._replace(value=json.dumps(fields).encode())
    owner = fields.get(f"{topic.keyed}_id")
    if isinstance(owner, str):
        record = record._replace(key=owner.encode("utf-8", "replace"))
    return record


def _check(topic: Topic, original: ConsumerRecord, mended: Record, future_ms_max: int) -> None:
    if not fits(mended, topic.message_bytes_max) or len(mended.value or b"") > topic.body_bytes_max:
        raise DecodeError("too-large", "body", "is more than its topic takes")
    if topic.struct is None:
        return
    now_ms = time.time_ns() // 1_000_000
    codec.decode(
        topic,
        replace(
            original, key=mended.key, value=mended.value, headers=mended.headers, timestamp=now_ms
        ),
        future_ms_max,
    )


async def _send(
    connection: Connection,
    producer: LaneProducer,
    source: str,
    ready: list[tuple[ConsumerRecord, Record]],
) -> None:
    async with open_reader(connection) as consumer:
        partitions = len(await partitions_of(consumer, source))
    for start in range(0, len(ready), LETTERS_A_TRANSACTION):
        writes: dict[Position, list[Record]] = {}
        for letter, mended in ready[start : start + LETTERS_A_TRANSACTION]:
            lane = partition_of(mended.key, partitions) if mended.key is not None else 0
            writes.setdefault(Position(source, lane), []).append(mended)
            here = Position(letter.topic, letter.partition)
            writes.setdefault(here, []).append(dead_letters.resolved(letter))
        await producer.commit(writes, {}, "")
