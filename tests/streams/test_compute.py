"""What touches state runs one after the other, and is never left half done."""

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from streams.compute import Compute


@pytest.fixture(params=[False, True], ids=["loop", "thread"])
def compute(request: pytest.FixtureRequest) -> Iterator[Compute]:
    made = Compute(thread=request.param)
    yield made
    made.close()


async def test_work_keeps_its_order_and_gives_its_answer(compute: Compute) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        return number * number

    answers = await asyncio.gather(*(compute.run(partial(work, n)) for n in range(50)))
    assert done == list(range(50))
    assert answers == [n * n for n in range(50)]


async def test_an_exception_is_the_callers(compute: Compute) -> None:
    def work() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        await compute.run(work)
    assert await compute.run(lambda: 7) == 7


async def test_who_is_cancelled_waits_for_what_has_begun() -> None:
    compute = Compute(thread=True)
    go_on, ended = threading.Event(), threading.Event()
    loop, running = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        loop.call_soon_threadsafe(running.set)
        go_on.wait()
        ended.set()

    task = asyncio.create_task(compute.run(work))
    await running.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    compute.close()


async def test_the_loop_goes_on_meanwhile() -> None:
    compute = Compute(thread=True)
    go_on = threading.Event()
    task = asyncio.create_task(compute.run(go_on.wait))
    await asyncio.sleep(0)
    go_on.set()  # only a free loop gets here
    assert await task
    compute.close()


async def test_what_is_brief_is_done_on_the_loop_unless_the_thread_is_at_work() -> None:
    compute, go_on = Compute(thread=True), threading.Event()
    here = threading.get_ident()
    assert await compute.run(threading.get_ident, brief=True) == here
    assert await compute.run(threading.get_ident) != here
    assert await compute.run(threading.get_ident, brief=True) == here, "it is idle again"
    busy = asyncio.create_task(compute.run(go_on.wait))
    await asyncio.sleep(0)
    waits = asyncio.create_task(compute.run(threading.get_ident, brief=True))
    await asyncio.sleep(0)
    assert not waits.done()
    go_on.set()
    assert await busy
    assert await waits == here
    compute.close()


async def test_what_is_brief_does_not_wait_for_ever_for_a_thread_that_is_never_idle() -> None:
    compute, answered = Compute(thread=True), asyncio.Event()

    async def again_and_again() -> None:
        while not answered.is_set():
            await compute.run(lambda: time.sleep(0.005))

    others = [asyncio.create_task(again_and_again()) for _ in range(3)]  # two wait meanwhile
    await asyncio.sleep(0.02)
    await asyncio.wait_for(compute.run(threading.get_ident, brief=True), 10.0)
    answered.set()
    await asyncio.gather(*others)
    compute.close()
