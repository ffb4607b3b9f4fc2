"""Which generation writes the live lists, and from which offset on.

A generation is a set of workers with state topics and groups of their own; all generations answer
the same input topics. `recsys promote` appends a marker to each partition of the inputs, in one
transaction: from the marker's offset on the lists belong to the generation it names, before it to
the one before. Every generation meets the marker at the same offset, so no list is missing and none
is written twice, however far one is behind the other. The markers are facts of the log: they are
kept in each lane's state log, and all of them in a compacted control topic for generations to come.
"""

import json
from bisect import bisect_right, insort
from collections.abc import Iterable
from typing import Any

from aiokafka.structs import ConsumerRecord

from recsys.settings import MAIN
from streams import topics
from streams.events import HEADER_PROMOTE

SUFFIX = b"\xff\xfc"  # after the topic's name; what ends so is neither a user's row nor a list owed
VERSION = 1
INTENT = "intent"  # no topic's name; any reader of switches takes it for one's, and is not misled

Change = tuple[bytes, bytes | None]


def input_name(topic: str, partition: int) -> str:
    """The name of an input's switches in a lane that reads a mirror of all its partitions.

    >>> input_name("shop.behaviour.v1", 3)
    'shop.behaviour.v1/3'
    """
    return f"{topic}/{partition}"


class Switches:
    """The switches that a lane knows, by input: a topic, of which it reads its own partition.

    A lane that reads a mirror knows those of all partitions, by `input_name`.

    >>> switches = Switches()
    >>> switches.add("shop.behaviour.v1", 7, "v2")
    >>> [switches.live("shop.behaviour.v1", offset) for offset in (6, 7, 8)]
    ['main', 'v2', 'v2']
    """

    def __init__(self) -> None:
        self._of: dict[str, list[tuple[int, str]]] = {}
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._of)

    def begin(self) -> None:
        """Start a round. What a round learns here needs no taking back: it stands in the log."""
        self._changed.clear()

    def add(self, at: str, offset: int, generation: str) -> None:
        """From this offset of the input on a generation writes the lists."""
        known = self._of.setdefault(at, [])
        if (offset, generation) not in known:
            insort(known, (offset, generation))
        self._changed.add(at)

    def live(self, at: str, offset: int) -> str:
        """Whose the list is that answers this offset."""
        known = self._of.get(at, ())
        place = bisect_right(known, offset, key=lambda switch: switch[0])
        return known[place - 1][1] if place else MAIN

    def last(self, at: str) -> tuple[int, str] | None:
        """The last switch, from which offset on and to whom; None where there was none."""
        known = self._of.get(at)
        return known[-1] if known else None

    def latest(self, at: str) -> str:
        """Whose the lists are after the last switch."""
        last = self.last(at)
        return last[1] if last else MAIN

    def dirty_records(self) -> list[Change]:
        """The round's changes, as records of the state log."""
        return [self._record(at) for at in sorted(self._changed)]

    def snapshot(self) -> list[Change]:
        """All of it, as records."""
        return [self._record(at) for at in sorted(self._of)]

    def _record(self, at: str) -> Change:
        body = json.dumps(self._of[at]).encode()
        return at.encode() + SUFFIX, bytes([VERSION]) + body

    def load_records(self, records: Iterable[Change]) -> None:
        """Take records whose keys end in SUFFIX. Raises ValueError for an unknown version."""
        for key, value in records:
            if value is None:
                continue
            if value[0] != VERSION:
                raise ValueError(f"switches of version {value[0]}, this reads {VERSION}")
            known = self._of.setdefault(key[: -len(SUFFIX)].decode(), [])
            for offset, generation in json.loads(value[1:]):
                if (offset, generation) not in known:
                    insort(known, (offset, generation))


class Control:
    """The control topic: the switches of every partition of the live inputs."""

    def __init__(self) -> None:
        self.partitions: dict[int, Switches] = {}

    def of(self, partition: int) -> Switches:
        """The switches of a partition of the inputs, by topic."""
        return self.partitions.setdefault(partition, Switches())

    def intend(self, offset: int, generation: str) -> None:
        """Note whom markers name that are yet to be written, at this offset of behaviour or after.

        It is of partition 0, and goes into the markers' transaction: where they lie is known after.
        """
        self.of(0).add(INTENT, offset, generation)

    def cut_off(self, prefix: str) -> str | None:
        """Whom the markers name that a promotion wrote and then kept no offsets of, if one did.

        >>> control = Control()
        >>> control.intend(7, "v2")
        >>> control.cut_off("shop"), control.latest("shop")
        ('v2', 'v2')
        >>> control.of(0).add("shop.behaviour.v1", 9, "v2")
        >>> control.cut_off("shop"), control.latest("shop")
        (None, 'v2')
        """
        intended = self.of(0).last(INTENT)
        kept = self.of(0).last(topics.BEHAVIOUR.name(prefix))
        if intended is None or (kept is not None and kept[0] >= intended[0]):
            return None
        return intended[1]

    def latest(self, prefix: str) -> str:
        """Who writes the lists after the last promotion; all partitions say the same."""
        return self.cut_off(prefix) or self.of(0).latest(topics.BEHAVIOUR.name(prefix))

    def records(self) -> list[Change]:
        """All of them, as a lane keeps them that reads a mirror: by `input_name`."""
        return [
            (input_name(key[: -len(SUFFIX)].decode(), partition).encode() + SUFFIX, value)
            for partition, switches in self.partitions.items()
            for key, value in switches.snapshot()
        ]

    def load(self, records: Iterable[ConsumerRecord]) -> None:
        """Take records of the control topic."""
        for record in records:
            self.of(record.partition).load_records([(record.key, record.value)])


def promoted(record: Any) -> str | None:
    """The generation that a marker names; None for any other record."""
    if record.key is None and record.value is None:
        for name, value in record.headers:
            if name == HEADER_PROMOTE and value:
                return str(value.decode("utf-8", "replace"))
    return None
