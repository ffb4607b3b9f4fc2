"""What a request to be forgotten covers, and what it leaves."""

import json

from recsys.forgotten import Forgotten
from streams import topics
from tests.records import NOW_MS, body, record


def test_a_record_goes_by_its_bodys_time():
    forgotten = Forgotten()
    forgotten.add("u1", NOW_MS)
    old = record(body(timestamp=NOW_MS - 5_000), timestamp=NOW_MS + 9_000)
    new = record(body(timestamp=NOW_MS + 5_000), timestamp=NOW_MS + 9_000)
    assert forgotten.covers_record(topics.BEHAVIOUR, old)
    assert not forgotten.covers_record(topics.BEHAVIOUR, new)
    assert not forgotten.covers_record(topics.BEHAVIOUR, record(b"broken"))
    assert forgotten.covers_record(topics.IMAGE_UPLOADS, record(b"jpeg", timestamp=NOW_MS - 1))


def test_of_several_requests_the_latest_holds():
    forgotten = Forgotten()
    forgotten.add("u1", 9_000)
    forgotten.add("u1", 4_000)
    assert forgotten.until_s("u1") == 9
    assert forgotten.until_s("u2") == -1


def test_what_its_lane_refuses_is_not_in_force():
    """A lane refuses a request that lies too far ahead, by a setting."""
    ahead = record(
        json.dumps({"v": 1, "user_id": "u1", "timestamp": NOW_MS + 600_000}).encode(),
        timestamp=NOW_MS,
    )
    strict, patient = Forgotten(future_ms_max=60_000), Forgotten()
    strict.load([ahead])
    patient.load([ahead])
    assert (len(strict), len(patient)) == (0, 1)
