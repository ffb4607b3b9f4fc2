import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import dead_letters
from streams.codec import REASONS, DecodeError
from tests.records import NOW_MS, record

headers = st.lists(
    st.tuples(st.text(max_size=20).filter(lambda t: "recsys-" not in t), st.binary())
)


def kept(original):
    error = DecodeError("range", "value", "is -1")
    letter = dead_letters.dead_letter(original, error)
    return record(letter.value, letter.key, original.topic + ".dlq", headers=letter.headers)


@given(st.none() | st.binary(), st.none() | st.binary(), headers, st.sampled_from(sorted(REASONS)))
def test_the_original_comes_back_whole(value, key, headers, reason):
    original = record(value, key, partition=5, offset=99, headers=headers)
    letter = dead_letters.dead_letter(original, DecodeError(reason, "field", "why\n“so”"))
    back = dead_letters.parse(record(letter.value, letter.key, "x.dlq", headers=letter.headers))
    assert (back.key, back.value, back.headers) == (key, value, tuple(headers))
    assert (back.topic, back.partition, back.offset) == ("recsys.behaviour.v1", 5, 99)
    assert (back.timestamp, back.reason, back.field) == (NOW_MS, reason, "field")
    assert back.message == "why?“so”"


def test_a_letter_that_died_twice_tells_of_its_last_death_only():
    once = kept(record(b"x"))
    twice = dead_letters.dead_letter(once, DecodeError("type", "body", "again"))
    names = [name for name, _ in twice.headers]
    assert len(names) == len(set(names))
    assert dict(twice.headers)["recsys-dlq-reason"] == b"type"


def test_what_is_sent_back_is_named_by_its_first_position():
    letter = dead_letters.parse(kept(record(b"x", offset=4, headers=[("traceparent", b"00")])))
    again = letter.resend(b"mended")
    assert again.value == b"mended"
    assert dict(again.headers) == {"traceparent": b"00", "ce_id": b"recsys.behaviour.v1/3/4"}
    passed_on = dead_letters.parse(kept(record(b"x", headers=[("recsys-origin", b"t/1/2")])))
    assert passed_on.resend(b"y").headers == (("ce_id", b"t/1/2"),)
    named = dead_letters.parse(kept(record(b"x", headers=[("ce_id", b"own")])))
    assert named.resend(b"y").headers == (("ce_id", b"own"),)


@pytest.mark.parametrize("headers", [(), [("recsys-dlq-topic", b"t")]])
def test_another_record_is_no_dead_letter(headers):
    with pytest.raises(DecodeError, match="recsys-dlq"):
        dead_letters.parse(record(b"x", headers=headers))


@pytest.mark.parametrize("broken", [b"one", b"\xff"])
def test_a_broken_header_is_told(broken):
    letter = kept(record(b"x"))
    changed = [(n, broken if n == "recsys-dlq-offset" else v) for n, v in letter.headers]
    with pytest.raises(DecodeError, match="headers"):
        dead_letters.parse(record(b"x", headers=changed))


def test_a_mark_is_told_from_a_letter_with_a_header_of_its_name():
    mark = dead_letters.resolved(record(b"x", partition=3, offset=9))
    assert dead_letters.resolves(record(mark.value, mark.key, headers=mark.headers)) == "3/9"
    claimed = kept(record(b"x", headers=mark.headers))
    assert dead_letters.resolves(claimed) is None
    alone = record(b"x", headers=mark.headers)
    assert dead_letters.resolves(alone) is None
