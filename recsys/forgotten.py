"""The right to be forgotten: who asked for it, and up to when nothing of them counts.

The forget log is a compacted topic keyed by user, read twice: every worker follows all of it, so
that old events of a forgotten user are known for what they are wherever a log is read again; and
each lane reads its partition of it as an input, and removes the user in its transaction.
"""

from collections.abc import Iterable

from aiokafka.structs import ConsumerRecord

from streams import codec, topics
from streams.codec import DecodeError
from streams.events import ForgetUser


class Forgotten:
    """Users with the second up to which, and including it, their records are as if never sent.

    Whole seconds, because that is how finely the state keeps a user's first event. A request that
    lies more than `future_ms_max` ahead is refused, as its lane refuses it.

    >>> forgotten = Forgotten()
    >>> forgotten.add("u1", 5_500)
    >>> forgotten.covers("u1", 5_999), forgotten.covers("u1", 6_000), forgotten.covers("u2", 1)
    (True, False, False)
    """

    def __init__(self, future_ms_max: int = topics.DAY_MS) -> None:
        self._until_s: dict[str, int] = {}
        self._future_ms_max = future_ms_max

    def __len__(self) -> int:
        return len(self._until_s)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._until_s

    def add(self, user_id: str, time_ms: int) -> None:
        """Forget a user as of a time; of several the latest holds."""
        self._until_s[user_id] = max(time_ms // 1000, self._until_s.get(user_id, 0))

    def until_s(self, user_id: str) -> int:
        """The second up to which nothing of them counts; -1 for someone who never asked."""
        return self._until_s.get(user_id, -1)

    def covers(self, user_id: str, time_ms: int) -> bool:
        """Whether something of this user at this time is to be forgotten."""
        return time_ms // 1000 <= self._until_s.get(user_id, -1)

    def load(self, records: Iterable[ConsumerRecord]) -> None:
        """Take records of the forget log; their owner alone writes dead letters for broken ones."""
        found, _, _ = codec.decode_chunk(topics.FORGET, list(records), self._future_ms_max)
        for message in found:
            if isinstance(message, ForgetUser):
                self.add(message.user_id, int(message.timestamp))  # type: ignore[arg-type]

    def covers_record(self, topic: topics.Topic, record: ConsumerRecord) -> bool:
        """The same of a record as it lies in its topic; its body's time goes before Kafka's."""
        if not self._until_s or not record.key:
            return False
        user_id = record.key.decode("utf-8", "replace")
        if user_id not in self._until_s:
            return False
        time_ms = int(record.timestamp)
        if topic.struct is not None:
            try:
                time_ms = self._time_ms(topic, record) or time_ms
            except DecodeError:
                return False  # it will be a dead letter where it goes
        return self.covers(user_id, time_ms)

    def _time_ms(self, topic: topics.Topic, record: ConsumerRecord) -> int | None:
        return getattr(codec.decode(topic, record, self._future_ms_max), "timestamp", None)
