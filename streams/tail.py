"""Following compacted topics that every worker needs whole: products, items, vectors."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord

from streams.chunk import Position
from streams.compute import Compute
from streams.connection import Connection
from streams.silence import Silence
from streams.state_log import reader, rows

POLL_MS = 500
RETRY_S = 1.0


class Tail:
    """Reads all partitions of some topics from the start, and goes on reading.

    `loaders` maps a topic's name to what takes its committed records. Partitions in `owned` wait:
    their owner has written what stands there, and knows it as long as it is the owner. Loaders run
    where the lanes' states are touched: `compute`.
    """

    def __init__(
        self, connection: Connection,
        loaders: Mapping[str, Callable[[list[ConsumerRecord]], None]],
        compute: Compute | None = None,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._loaders = dict(loaders)
        self._compute = compute or Compute()
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._positions: dict[Position, int] = {}
        self._silence: Silence | None = None
        self.owned: set[Position] = set()

    async def start(self) -> None:
        """Start reading. Raises KafkaError where the broker cannot be had."""
        self._silence = Silence()  # what came before, such as compiling, was nobody's silence
        self._consumer = consumer = reader(self._connection)
        await consumer.start()
        tps = []
        for topic in self._loaders:
            partitions = consumer.partitions_for_topic(topic)
            if partitions is None:
                await consumer._client.add_topic(topic)
                partitions = consumer.partitions_for_topic(topic) or set()
            tps += [TopicPartition(topic, p) for p in sorted(partitions)]
        consumer.assign(tps)
        begins = await consumer.beginning_offsets(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
            self._positions[Position(*tp)] = begins[tp]
        self._task = asyncio.create_task(self._follow(), name="tail")

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)  # `failed` tells how it ended
        if self._consumer is not None:
            await self._consumer.stop()

    @property
    def silent_s(self) -> float:
        """Seconds since any broker answered; a tail that works asks twice a second. 0 unstarted."""
        return self._silence.seconds(self._consumer) if self._silence else 0.0

    @property
    def failed(self) -> BaseException | None:
        """Why it ended, if it did."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    async def catch_up(self, sources: Iterable[Position] | None = None) -> None:
        """Wait until what was committed when this was called has been loaded."""
        assert self._consumer is not None, "start first"
        wanted = [TopicPartition(*s) for s in (self._positions if sources is None else sources)]
        ends = await self._consumer.end_offsets(wanted)
        while any(self._positions[Position(*tp)] < end for tp, end in ends.items()):
            if self.failed is not None:
                raise self.failed
            await asyncio.sleep(0.02)

    async def _follow(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while True:
            # What is owned is not fetched either: an owner that was replaced unawares must read
            # what its successor wrote meanwhile.
            wanted = [TopicPartition(*p) for p in self._positions if p not in self.owned]
            try:
                fetched = await consumer.getmany(*wanted, timeout_ms=POLL_MS) if wanted else {}
                if not wanted:
                    await asyncio.sleep(POLL_MS / 1000)
            except (TopicAuthorizationFailedError, GroupAuthorizationFailedError):
                raise  # what is not read any more would be served as it was, for ever
            except KafkaError:
                await asyncio.sleep(RETRY_S)
                continue
            for tp in wanted:
                position = Position(*tp)
                if position in self.owned:  # it became so while we waited
                    consumer.seek(tp, self._positions[position])
                    continue
                if tp in fetched:
                    load = functools.partial(self._loaders[tp.topic], rows(fetched[tp]))
                    await self._compute.run(load)
                self._positions[position] = await consumer.position(tp)
