"""A record is as it was, or as much of it as fits; what is ours is never lost."""

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streams import codec, topics
from streams.chunk import Record
from streams.fitted import fitted
from tests.records import body, record

LIMIT = topics.BEHAVIOUR.copy_bytes_max
OURS = ("recsys-place", b"3/17")
sizes = st.sampled_from([0, 1, 500, 40_000, 70_000, LIMIT - 2000, LIMIT, 3 * LIMIT])


def bytes_in_kafka(each: Record) -> int:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=1, producer_id=1, producer_epoch=1,
        base_sequence=1, batch_size=1,
    )  # fmt: skip
    key, value, headers, _ = each
    builder.append(0, timestamp=1, key=key, value=value, headers=list(headers))
    return len(builder.build())


@given(st.none() | sizes, st.none() | sizes, st.lists(sizes, max_size=4))
def test_it_fits_and_keeps_our_header_the_last(key, value, headers):
    given_record = Record(
        None if key is None else bytes(key), None if value is None else bytes(value),
        [*(("theirs", bytes(size)) for size in headers), OURS], 5,
    )  # fmt: skip
    found = fitted(given_record, LIMIT)
    assert bytes_in_kafka(found) <= LIMIT
    assert found.headers[-1] == OURS
    assert found.timestamp_ms == 5
    assert (found.key is None, found.value is None) == (key is None, value is None)
    if bytes_in_kafka(given_record) <= LIMIT - 2000:
        assert found == given_record


def test_a_body_that_is_read_is_never_cut_and_one_that_is_cut_is_never_read():
    for topic in topics.TOPICS:
        if topic.dead_letters:
            heavy = [("theirs", bytes(3 * LIMIT)), OURS]
            whole = Record(b"u1", bytes(topic.body_bytes_max), heavy)
            for limit in (topic.message_bytes_max, topic.copy_bytes_max):
                assert fitted(whole, limit).value == whole.value
            larger = Record(b"u1", bytes(3 * topic.copy_bytes_max), heavy)
            cut = fitted(larger, topic.copy_bytes_max).value
            assert topic.body_bytes_max < len(cut) < len(larger.value)


def test_a_body_of_blanks_is_refused_before_and_after():
    padded = body() + b" " * 3 * LIMIT
    cut = fitted(Record(b"u1", padded, [OURS]), LIMIT).value
    for value in (padded, cut):
        _, _, ((_, error),) = codec.decode_chunk(topics.BEHAVIOUR, [record(value)])
        assert error.reason == "too-large"
