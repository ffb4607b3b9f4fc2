"""A broker that is gone for good: the worker says so and ends, so that its supervisor knows."""

from pathlib import Path

import pytest

from recsys.soak import run

STOP_S = 10.0  # a graceful stop's promise


@pytest.mark.timeout(600)
async def test_a_worker_without_a_broker_ends_in_bounded_time(tmp_path: Path) -> None:
    async with run.one_broker(tmp_path, seed=3) as faults:
        (worker,) = faults.shop.workers
        spare = faults.shop.supervisor.add("impatient", WORKER__BROKER_TIMEOUT_S="4")
        spare.start()
        await spare.until_ready()
        spare.wanted = False
        faults.shop.feed.paused = True
        assert faults.proxy is not None
        await faults.proxy.cut()

        _, seconds = await worker.stop()  # told to, though nobody is there to say goodbye to
        assert seconds < STOP_S, worker.tail()

        await spare.until_ended(90)
        assert spare.process is not None
        assert spare.process.returncode == 1, spare.tail()
        assert "no broker answered for 4 s (worker.broker_timeout_s)" in spare.log()
