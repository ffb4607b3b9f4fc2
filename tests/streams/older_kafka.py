"""Lets a producer meet a cluster that has not settled on the second version of transactions."""

from typing import Any

import pytest

from streams.transaction import LaneProducer


def speak_version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on producers leave transactions to aiokafka."""

    async def no(*_: Any) -> bool:
        return False

    monkeypatch.setattr(LaneProducer, "speaks_version_2", no)
