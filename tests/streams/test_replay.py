import pytest

from streams.connection import Connection
from streams.replay import Pace, ReplayError, again, read_topic
from tests.records import record


class Clock:
    """Seconds that pass when told to."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


def test_distances_are_kept_divided_by_the_speed():
    clock = Clock()
    pace = Pace(10, clock)
    assert pace.delay_s(1_000_000) == 0
    assert pace.delay_s(1_060_000) == pytest.approx(6)
    clock.now_s += 4
    assert pace.delay_s(1_060_000) == pytest.approx(2)
    clock.now_s += 4  # late: it does not wait, and the next is due by the first event still
    assert pace.delay_s(1_060_000) == 0
    assert pace.delay_s(1_090_000) == pytest.approx(1)
    assert pace.delay_s(900_000) == 0


def test_without_a_speed_it_never_waits():
    pace = Pace(None, Clock())
    assert [pace.delay_s(ms) for ms in (0, 10**12)] == [0, 0]


def test_what_is_sent_again_is_known_by_its_first_position():
    old = record(b"x", b"u1", partition=2, offset=5, headers=[("a", b"b")])
    new = again(old)
    assert (new.key, new.value, new.timestamp_ms) == (b"u1", b"x", old.timestamp)
    assert dict(new.headers) == {"a": b"b", "ce_id": b"recsys.behaviour.v1/2/5"}
    passed_on = again(record(b"x", headers=[("recsys-origin", b"t/9/9")]))
    assert dict(passed_on.headers) == {"ce_id": b"t/9/9"}
    named = again(record(b"x", headers=[("ce_id", b"own")]))
    assert dict(named.headers) == {"ce_id": b"own"}


async def test_no_broker_is_said_in_a_sentence():
    with pytest.raises(ReplayError, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        async for _ in read_topic(Connection("127.0.0.1:1"), "t"):
            pass
