"""Dead letters go back once each, and one that cannot does not hold up the others."""

import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from streams import admin, dead_letters, repair, state_log, topics
from streams.broker import Broker
from streams.chunk import Position
from streams.codec import DecodeError
from streams.connection import Connection
from streams.replay import ReplayError
from streams.transaction import LaneProducer

REQUEST = b'{"user_id": "u", "request_id": "r"}'


class Letters:
    """A topic, and the letters that died of it."""

    def __init__(self, broker: Broker, topic: topics.Topic) -> None:
        self.connection, self.topic = Connection(broker.bootstrap), topic
        self.prefix = f"repair{uuid.uuid4().hex[:6]}"
        self.live = Position(topic.name(self.prefix), 0)
        self.dead = Position(topics.dead_letter_name(self.live.topic), 0)

    async def write(self, *bodies: bytes) -> "Letters":
        wanted = admin.wanted_topics(self.prefix, 1, 1, 1)
        own = [each for each in wanted if each.name in (self.live.topic, self.dead.topic)]
        await admin.create_topics(self.connection, own)
        producer = LaneProducer(self.connection, f"{self.prefix}-lane")
        await producer.start()
        for offset, body in enumerate(bodies):
            died = ConsumerRecord(
                *self.live, offset, 1_700_000_000_000, 0, b"u", body, None, 1, 1, ()
            )
            letter = dead_letters.dead_letter(died, DecodeError("type", "body", "as told"))
            await producer.commit({self.dead: [letter]}, {}, "")
        await producer.stop()
        return self

    async def send_back(self) -> repair.Repair:
        return await repair.send_back(
            self.connection, self.topic, self.prefix, self.prefix, future_ms_max=1
        )

    async def went_back(self) -> list[bytes]:
        records: list[ConsumerRecord] = []
        await state_log.restore(self.connection, self.live, records.extend)
        return [record.value for record in records]


async def test_one_that_its_topic_does_not_take_holds_up_no_other(local_broker: Broker) -> None:
    photos = await Letters(local_broker, topics.IMAGE_UPLOADS).write(b"small", bytes(20 << 20))
    for sent, before in ((1, 0), (0, 1)):
        outcome = await photos.send_back()
        assert (outcome.sent, outcome.already_sent) == (sent, before)
        assert outcome.kept_by_reason() == {"too-large": 1}
    assert await photos.went_back() == [b"small"]


async def test_who_cannot_see_the_marks_sends_nothing(
    local_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks behind a transaction that is open, of a lane that was killed, say, cannot be read."""
    letters = await Letters(local_broker, topics.REQUESTS).write(REQUEST)
    assert (await letters.send_back()).sent == 1
    lane = AIOKafkaProducer(
        bootstrap_servers=local_broker.bootstrap, transactional_id=f"{letters.prefix}-killed"
    )
    await lane.start()
    await lane.begin_transaction()
    await lane.send_and_wait(letters.dead.topic, b"v", key=b"k", partition=0)
    monkeypatch.setattr(repair, "SETTLED_S_MAX", 0.5)
    with pytest.raises(ReplayError, match="open"):
        await letters.send_back()
    await lane.abort_transaction()
    await lane.stop()
    monkeypatch.undo()
    assert (await letters.send_back()).already_sent == 1
    assert await letters.went_back() == [REQUEST]
