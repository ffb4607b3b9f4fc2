"""A reason is told while it is fresh."""

import logging

from streams import unconnected


def test_a_clients_reason_is_told_for_a_minute(monkeypatch):
    logger = logging.getLogger("aiokafka")
    for name in ("level", "propagate", "handlers"):  # as they were, after the test
        value = getattr(logger, name)
        monkeypatch.setattr(logger, name, value[:] if name == "handlers" else value)
    unconnected.listen()
    logger.error("Unable connect to node %s: %s", 1, OSError("refused"))
    assert unconnected.why(TimeoutError("silence")) == "refused"
    monkeypatch.setattr(unconnected, "RECENT_S", 0.0)
    assert unconnected.why(TimeoutError("silence")) == "silence"
