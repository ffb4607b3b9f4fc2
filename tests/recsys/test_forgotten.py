"""What a request to be forgotten covers, and what it leaves."""

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
