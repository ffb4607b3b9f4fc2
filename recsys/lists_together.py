"""Lists that several lanes ask for in one turn of the event loop, made in one pass.

Brief rounds of several lanes are worked on one after the other, and then commit at once. Their
lists are cheaper when all are made together, and the same: no list depends on its company.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from recsys.chunk_lists import ChunkLists
from recsys.pipeline import Pipeline
from streams.application import Outcome
from streams.compute import Compute


class Round:
    """A lane's round whose lists wait: `finish` says what it writes when they are made."""

    def __init__(self, chunk: ChunkLists, finish: Callable[[], Outcome]) -> None:
        self.chunk, self._finish = chunk, finish
        self._before_s = chunk.lists_s
        self._outcome: Outcome | None = None
        self.settled: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def finish(self) -> None:
        """Unless its lane has given up."""
        if not self.settled.cancelled():
            begun = time.monotonic()
            self._outcome = self._finish()
            self._outcome.seconds = self.chunk.lists_s - self._before_s + time.monotonic() - begun

    def settle(self) -> None:
        """Tell the lane."""
        if self._outcome is not None and not self.settled.done():
            self.settled.set_result(self._outcome)


class ListsTogether:
    """The rounds of one worker that wait for each other.

    Args:
        pipeline: makes the lists.
        compute: where states may be touched.
    """

    def __init__(self, pipeline: Pipeline, compute: Compute) -> None:
        self._pipeline, self._compute = pipeline, compute
        self._waiting: list[Round] = []
        self._task: asyncio.Task[None] | None = None

    def outcome(self, chunk: ChunkLists, finish: Callable[[], Outcome]) -> Awaitable[Outcome]:
        """What a round writes, once its lists are made with those of the lanes that follow it.

        Raises what making the lists raises, or finishing any of the rounds.
        """
        waiting = Round(chunk, finish)
        self._waiting.append(waiting)
        if len(self._waiting) == 1:  # whoever may run now asks before this begins
            self._task = asyncio.get_running_loop().create_task(self._make())
        return waiting.settled

    async def _make(self) -> None:
        rounds = self._waiting  # others may join until the work begins

        def work() -> None:
            self._waiting = []
            self._pipeline.answer_all([each.chunk for each in rounds])
            for each in rounds:
                each.finish()

        try:
            await self._compute.run(work, brief=True)
        except Exception as error:
            if self._waiting is rounds:  # it was not even begun
                self._waiting = []
            for each in rounds:
                if not each.settled.done():
                    each.settled.set_exception(error)
            return
        for each in rounds:
            each.settle()
