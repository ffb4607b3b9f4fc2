"""Steps of a worker's wall clock: lists must go on as if nothing had been."""

import asyncio
import time

from recsys.soak.shop import Shop
from recsys.soak.workers import WorkerProcess

CLOCK_STEPS = {  # seconds; Kafka takes no record that is over an hour ahead of its own clock
    "an hour forth": 3600,
    "an hour back": -3600,
    "a day forth": 24 * 3600,
    "two days back": -48 * 3600,
}
WRONG_S = 12.0
FEW_LISTS = {"WORKER__LIST_EVENTS_PER_S_MAX": "4"}  # a worker's setting, so that some are owed
WAIT_S_MAX = 10.0  # of a list: `list_delay_ms_max` is 2 s, the rest is a busy machine
SHOWN_WITHIN_S = 60.0


async def step(
    shop: Shop, clocked: WorkerProcess, seconds: int, wrong_s: float = WRONG_S
) -> tuple[float, float, str]:
    """Set the clock of a worker that has all lanes wrong, and after a while right again.

    Seconds until the first new list, and until all lanes had one; what was amiss, or ''.
    """
    begun = time.monotonic()
    clocked.set_clock(seconds)
    first_s, all_s = await shop.until_lists_flow(begun)
    await asyncio.sleep(wrong_s)
    ahead_s = shop.lists.ahead_s
    clocked.set_clock(0)
    await shop.until_lists_flow(time.monotonic())
    waited_s = shop.longest_wait_s(begun)
    amiss = ""
    if abs(ahead_s - seconds) > SHOWN_WITHIN_S:
        amiss = f"the lists' own time is {ahead_s:.0f} s ahead, {seconds} s were set"
    elif waited_s > WAIT_S_MAX:
        amiss = f"a list waited {waited_s:.1f} s"
    return first_s, all_s, amiss
