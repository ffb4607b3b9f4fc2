"""How long no broker has answered: a client of ours that waits must not wait for ever."""

import time

from aiokafka import AIOKafkaConsumer


class Silence:
    """Of one consumer; one that reads asks a broker several times a second."""

    def __init__(self) -> None:
        self._heard_at = time.monotonic()

    def seconds(self, consumer: AIOKafkaConsumer | None) -> float:
        """Since the last answer of any broker, or since this was made."""
        if consumer is not None:
            connections = consumer._client._conns.values()
            self._heard_at = max([self._heard_at, *(each._last_action for each in connections)])
        return time.monotonic() - self._heard_at


def told(patience_s: float, bootstrap: str) -> str:
    """The sentence that a silence of `patience_s` ends with."""
    return f"no broker answered for {patience_s:g} s (worker.broker_timeout_s): {bootstrap}"
