"""Turns: how many rounds run at once, and how many may start a second, over all lanes."""

import asyncio
import math
import time

HURRY_S = 1.0


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

    def hurry(self) -> None:
        """Somebody waits for an answer, and will be followed by others."""
        self._hurried_until = time.monotonic() + HURRY_S

    @property
    def hurried(self) -> bool:
        """Whether rounds are to be short, whoever's turn it is."""
        return time.monotonic() < self._hurried_until

    async def start(self) -> None:
        """Wait for the next free start."""
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + self._every_s
        if at > now:
            await asyncio.sleep(at - now)

    async def __aenter__(self) -> None:
        await self._running.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._running.release()
