"""Chunks follow one another without a gap, whatever became of a fetch."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import loop_consumer, transport
from streams.broker import Broker
from streams.chunk import Chunk
from streams.compute import Compute
from tests.streams.toy import Toy, expected, together, until

COUNT = 600


@pytest.fixture
async def toy(local_broker: Broker, tmp_path: Path) -> Toy:
    return await Toy(local_broker.bootstrap, tmp_path).create()


async def test_a_fetch_whose_answer_was_not_used_comes_again(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance makes an answer useless after the client's position has moved on."""
    async with toy.worker() as (worker, application):
        thread = worker.app.consumer._thread
        fetch, lost = thread.fetch, []

        async def lossy(*given: Any) -> Any:
            number, records = await fetch(*given)
            if records and len(lost) < 5:
                lost.append(records)
                return -1, {}
            return number, records

        monkeypatch.setattr(thread, "fetch", lossy)
        for first in range(0, COUNT, 60):
            await toy.produce(60, first)
        await until(lambda: application.count >= COUNT)
        assert together(application) == expected(COUNT)
        assert lost


async def test_partitions_may_be_revoked_while_an_answer_is_handed_over(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with toy.worker() as (worker, application):
        consumer = worker.app.consumer
        fetch, callback = consumer._thread.fetch, consumer.callback
        several, revoked = [False], []

        async def watched(*given: Any) -> Any:
            number, records = await fetch(*given)
            several[0] = len(records) > 1
            return number, records

        async def revoking(message: Any) -> None:
            if several[0] and len(revoked) < 3:
                several[0] = False
                revoked.append(message.tp)
                consumer._expected.clear()
            await callback(message)

        monkeypatch.setattr(consumer._thread, "fetch", watched)
        monkeypatch.setattr(consumer, "callback", revoking)
        for first in range(0, COUNT, 60):
            await toy.produce(60, first)
        await until(lambda: application.count >= COUNT)
        assert together(application) == expected(COUNT)
        assert revoked


async def test_a_lane_that_missed_a_chunk_has_it_again(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with toy.worker() as (worker, application):
        missed: list[Chunk] = []
        for lane in worker.lanes.values():
            put = lane.put

            def forgetful(chunk: Chunk, put: Any = put) -> None:
                if len(missed) < 3:
                    missed.append(chunk)
                    chunk.release()
                else:
                    put(chunk)

            monkeypatch.setattr(lane, "put", forgetful)
        sent = 0
        while len(missed) < 3:  # how many records a chunk has is the machine's affair
            await toy.produce(60, sent)
            sent += 60
            await asyncio.sleep(0.01)
        await toy.produce(60, sent)  # a chunk shows the gap before it: the last ones need another
        await until(lambda: application.count >= sent + 60)
        assert together(application) == expected(sent + 60)


async def test_a_chunk_that_comes_before_its_lane_waits_for_it(toy: Toy) -> None:
    async with toy.worker() as (worker, application):
        lanes, worker.lanes = worker.lanes, {}
        await toy.produce(COUNT)
        worker.lanes = lanes
        await until(lambda: application.count >= COUNT)
        assert together(application) == expected(COUNT)


async def test_what_is_under_way_is_bounded_and_given_back(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for nothing, one chunk of a partition at a time is still handed over."""
    monkeypatch.setattr(transport, "WINDOW_BYTES", 1)
    async with toy.worker() as (worker, application):
        consumer, most = worker.app.consumer, [0]
        callback = consumer.callback

        async def watched(message: Any) -> None:
            held = transport._bytes(message.value.records)
            most[0] = max(most[0], consumer._under_way[message.tp] - held)
            await callback(message)

        monkeypatch.setattr(consumer, "callback", watched)
        for first in range(0, COUNT, 60):
            await toy.produce(60, first)
        await until(lambda: application.count >= COUNT)
        assert together(application) == expected(COUNT)
        assert most[0] == 0
        await until(lambda: not any(consumer._under_way.values()))


async def test_a_chunk_says_how_many_lie_behind_it(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CHUNK_RECORDS_MAX", 20)
    async with toy.worker() as (worker, application):
        consumer, chunks = worker.app.consumer, []
        callback = consumer.callback

        async def watched(message: Any) -> None:
            chunks.append(message.value)
            await callback(message)

        monkeypatch.setattr(consumer, "callback", watched)
        await toy.produce(COUNT)
        await until(lambda: application.count >= COUNT)
    ends = {chunk.source: chunk.end for chunk in chunks}
    assert all(chunk.end + chunk.behind <= ends[chunk.source] for chunk in chunks)
    assert {chunk.source for chunk in chunks if not chunk.behind} == set(ends)
    assert max(chunk.behind for chunk in chunks) >= 20


async def test_an_answer_that_lay_ready_brings_what_came_since_too(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with toy.worker(compute=Compute(thread=True)) as (worker, application):
        thread, apply, newer = worker.app.consumer._thread, application.apply, [0]
        fetch_records = thread._fetch_records

        async def watched(*given: Any, timeout: float) -> Any:
            records = await fetch_records(*given, timeout=timeout)
            if timeout == loop_consumer.NEWER_S:
                newer[0] += sum(map(len, records.values()))
            return records

        def slow(*given: Any) -> Any:
            time.sleep(0.05)  # records come meanwhile
            return apply(*given)

        monkeypatch.setattr(thread, "_fetch_records", watched)
        monkeypatch.setattr(application, "apply", slow)
        async with AIOKafkaProducer(bootstrap_servers=toy.bootstrap) as producer:
            for number in range(COUNT):
                await producer.send(toy.numbers, b"%d" % number, key=b"k%d" % (number % 10))
                await asyncio.sleep(0.001)
        await until(lambda: application.count >= COUNT)
        assert together(application) == expected(COUNT)
        assert newer[0] > 0
