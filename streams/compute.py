"""The one thread that touches state: rounds are computed there while the event loop commits others.

One, because lanes share what is known of items; compiled kernels run there without the GIL. Work
runs in the order it was handed in, so the rounds of a lane keep theirs.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def on_the_loop() -> bool:
    """Whether this is an event loop's thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Compute:
    """Runs work one after the other: on a thread of its own, or on the event loop what is brief.

    Without a thread all is done on the loop: that suits what is cheaper than the way to a thread,
    some 0.1 ms.
    """

    def __init__(self, *, thread: bool = False) -> None:
        self._thread = ThreadPoolExecutor(1, "compute") if thread else None
        self._unfinished: set[asyncio.Future[Any]] = set()  # of what the thread was given

    async def run(self, work: Callable[[], Answer], *, brief: bool = False) -> Answer:
        """Do it and wait for its answer or exception.

        What is brief is done here, after what the thread was given before, if it is idle then.

        Who is cancelled meanwhile waits for the end of what has begun: state is never left while
        it is being changed.
        """
        if brief and self._unfinished:  # what goes to a busy thread keeps it busy
            await asyncio.wait(list(self._unfinished))
        if self._thread is None or (brief and not self._unfinished):
            return work()
        begun = self._thread.submit(work)
        done = asyncio.wrap_future(begun)
        self._unfinished.add(done)
        done.add_done_callback(self._unfinished.discard)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not begun.cancel():
                await asyncio.wait([done])
            raise

    def close(self) -> None:
        """End the thread when its work is done."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
