"""Turns: how many rounds run at once, how long, and how many may start a second, over all lanes."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator

HURRY_S = 1.0
ROUND_S = 0.25  # a round applies for no longer, or the other lanes' open transactions time out
HURRIED_ROUND_S = 0.07  # while there is somebody who waits for the lanes' turns
ALONE_S = 0.05  # a broker may be far away, or not answer at all
GROUP_MAX = 4  # brief rounds that are worked on one after the other, and then committed at once
GROUP_SHARE = 4  # a group is the n-th part of the lanes that wait
TURN_S = 0.5  # of all lanes that have something to do: each has its next round after that


class Turns:
    """Shared by the lanes of a role: whoever asks first starts first.

    Args:
        at_once: rounds under way at most.
        per_s: starts a second; after a silence the first starts at once.
    """

    def __init__(self, at_once: int = 1, per_s: float = math.inf) -> None:
        self._running = asyncio.Semaphore(at_once)
        self._every_s = 1.0 / per_s
        self._next_at = 0.0
        self._hurried_until = 0.0
        self._lanes = 0  # that run or wait for their turn
        self._grouped = 0  # brief ones under way that others wait for
        self._queue: deque[asyncio.Future[None]] = deque()  # of brief ones

    def hurry(self) -> None:
        """Somebody waits for an answer, and will be followed by others."""
        self._hurried_until = time.monotonic() + HURRY_S

    @property
    def round_s(self) -> float:
        """How long the round of one lane may be."""
        hurried = time.monotonic() < self._hurried_until
        return min(HURRIED_ROUND_S if hurried else ROUND_S, TURN_S / max(1, self._lanes))

    async def start(self) -> None:
        """Wait for the next free start."""
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + self._every_s
        if at > now:
            await asyncio.sleep(at - now)

    @contextlib.asynccontextmanager
    async def turn(self, *, brief: bool) -> AsyncIterator[None]:
        """A lane's turn, for one round.

        A brief one is alone for a while, or in a group where many wait: its work is done on the
        loop, where a commit that takes three answers would wait for other lanes' work three times.
        """
        self._lanes += 1
        try:
            async with self._group() if brief else contextlib.nullcontext(), self._running:
                yield
        finally:
            self._lanes -= 1

    @contextlib.asynccontextmanager
    async def _group(self) -> AsyncIterator[None]:
        if self._grouped or self._queue:
            await self._admission()
        else:
            self._grouped += 1
        stack = contextlib.ExitStack()
        stack.callback(self._leave)
        too_long = asyncio.get_running_loop().call_later(ALONE_S, stack.close)
        try:
            yield
        finally:
            too_long.cancel()
            stack.close()

    async def _admission(self) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # admitted, and cancelled before it began
                self._leave()
            raise

    def _leave(self) -> None:
        """Where it was the last of its group the next one begins."""
        self._grouped -= 1
        if self._grouped or not self._queue:
            return
        size = min(GROUP_MAX, max(1, len(self._queue) // GROUP_SHARE))
        while self._queue and self._grouped < size:
            admitted = self._queue.popleft()
            if not admitted.cancelled():
                admitted.set_result(None)
                self._grouped += 1
