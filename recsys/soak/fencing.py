"""A worker frozen beyond its session must be fenced when it is awake again, and write nothing."""

import asyncio
import re
import time
from collections.abc import Sequence

from recsys.soak import writers
from recsys.soak.shop import POLL_S, Shop
from recsys.soak.workers import WorkerProcess
from recsys.soak.writers import Batch
from streams import topics
from streams.chunk import Position

BACK_S = 60.0  # by then it is in its group again
WRITTEN = (topics.USER_STATE, topics.RECOMMENDATIONS)
NOWHERE = -1
LOOK_BACK = 100  # offsets before the freeze in which its last batch lies

_TIME = re.compile(r"^timestamp='([^']+)'")  # they compare as text


class Freeze:
    """One try: `begin` freezes a worker in mid-transaction, `end` wakes it up and tells of it."""

    def __init__(self, shop: Shop, frozen: WorkerProcess) -> None:
        self._shop = shop
        self._frozen = frozen
        self._assigned = re.compile(
            rf"^timestamp='([^']+)'.*lanes\.assigned' group='{shop.prefix}-behaviour'"
            r" lanes=\[(.*)\]", re.M,
        )  # fmt: skip
        self._fenced = re.compile(rf"{shop.prefix}-\w+-\d+ was taken over by another worker")
        self._ends: dict[Position, int] = {}

    async def begin(self, point: str, passes: int) -> None:
        """Start it anew, and let SIGSTOP hold it at a named place: it has a write to finish."""
        self._frozen.kill()
        known = len(self._frozen.log())
        self._frozen.start(crash_at=f"{point}:{passes}:SIGSTOP")
        await self._frozen.until_stopped()
        prefix = self._shop.prefix
        assigned = self._assigned.findall(self._frozen.log()[known:])
        lanes = [int(lane) for lane in assigned[-1][1].split(",") if lane] if assigned else []
        logs = [Position(topic.name(prefix), lane) for topic in WRITTEN for lane in lanes]
        self._ends = await writers.ends(self._shop.connection, logs)

    async def end(self) -> list[str]:
        """SIGCONT; what is not as it must be, in words. Others have written in all of its lanes."""
        known = {worker.name: len(worker.log()) for worker in self._shop.workers}
        self._frozen.resume()
        fenced, back = await self._until_back(known[self._frozen.name])
        if not back:
            return [f"it was not back in its group after {BACK_S:.0f} s"]
        told = [] if fenced else ["it was not fenced"]
        told += [] if self._ends else ["it had no lanes to lose"]
        for worker in self._shop.workers:
            if worker is not self._frozen:
                lines = worker.log()[known[worker.name] :].splitlines()
                if any(self._fenced.search(line) and _time(line) < back for line in lines):
                    told.append(f"it took lanes from {worker.name}, which had them by right")
        for log, end in self._ends.items():
            batches = await writers.read(self._shop.connection, log, max(0, end - LOOK_BACK))
            told += [f"{log.topic}/{log.partition}: {each}" for each in intruders(batches, end)]
        return told

    async def _until_back(self, known: int) -> tuple[bool, str]:
        """Wait for both: that it was fenced, and when it was assigned lanes anew ('': it was not).

        Either may come first: what it had to finish may be of another role's group.
        """
        deadline = time.monotonic() + BACK_S
        while True:
            said = self._frozen.log()[known:]
            fenced, found = self._fenced.search(said), self._assigned.search(said)
            if (fenced and found) or time.monotonic() > deadline:
                return fenced is not None, found[1] if found else ""
            await asyncio.sleep(POLL_S)


def _time(line: str) -> str:
    """The line's own time; one that has none comes after all."""
    found = _TIME.search(line)
    return found[1] if found else "~"


def intruders(batches: Sequence[Batch], end: int) -> list[str]:
    """What is wrong in a lane's log whose owner was frozen at `end`, in words.

    An owner's epochs rise with its transactions, and a takeover's is above them; another producer
    takes the whole log over. Whoever was overtaken must write nothing after that.
    """
    newest: dict[int, int] = {}  # epoch by producer, the last one the owner
    for batch in batches:
        if batch.offset < end:
            newest[batch.producer[0]] = max(batch.producer[1], newest.pop(batch.producer[0], 0))
    if not newest:
        return ["nothing of it is there to tell it by"]
    taken, told = NOWHERE, []
    for batch in batches:
        producer, epoch = batch.producer
        owner = next(reversed(newest))
        if batch.offset < end or (producer, epoch) == (owner, newest[owner]):
            continue
        if (producer == owner and epoch > newest[owner]) or producer not in newest:
            newest[producer] = epoch
            taken = batch.offset if taken == NOWHERE else taken
        else:
            told.append(f"the frozen worker wrote at {batch.offset}, after the takeover at {taken}")
    return ["nobody took it over"] if taken == NOWHERE else told
