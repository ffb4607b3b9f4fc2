import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams import codec, topics
from streams.codec import DecodeError
from streams.events import (
    EVENT_TYPES,
    TIMESTAMP_MS_MIN,
    BehaviourEvent,
    CandidateFilter,
    ClassProbability,
    ForgetUser,
    ImageEmbedding,
    Product,
    RankedItem,
    RankedList,
    RecommendationRequest,
    Trigger,
    time_ms,
)
from tests.records import EVENT, NOW_MS, body, record

DAY_MS = topics.DAY_MS
LATE = "x" * 257


def refusal(value, topic=topics.BEHAVIOUR, **changes):
    with pytest.raises(DecodeError) as caught:
        codec.decode(topic, record(value, **changes))
    error = caught.value
    assert error.reason in codec.REASONS
    assert error.field
    assert str(error).startswith(error.field)
    return error.reason, error.field


def raw(field: str, text: str) -> bytes:
    return json.dumps(EVENT | {field: "@"}).replace('"@"', text).encode()


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        (b"nonsense", "not-json", "body"),
        (b"\xff\xfe\x00", "not-json", "body"),
        (b"{", "not-json", "body"),
        (body() + b"x", "not-json", "body"),
        (b"", "missing", "body"),
        (None, "missing", "body"),
        (b"[]", "type", "body"),
        (b"null", "type", "body"),
        (b"{}", "missing", "user_id"),
        (body(item_id=None), "missing", "item_id"),
        (body(type=None), "missing", "type"),
        (body(timestamp=None), "missing", "timestamp"),
        (body(user_id=5), "type", "user_id"),
        (body(item_id=["i1"]), "type", "item_id"),
        (body(value="3"), "type", "value"),
        (body(timestamp=1.5), "type", "timestamp"),
        (body(timestamp=True), "type", "timestamp"),
        (body(context={"a": [1]}), "type", "context[]"),
        (body(value=-1), "range", "value"),
        (body(value=1e12), "range", "value"),
        (raw("value", "NaN"), "range", "value"),
        (raw("value", "-Infinity"), "range", "value"),
        (raw("value", "1e400"), "range", "value"),
        (raw("timestamp", "NaN"), "range", "timestamp"),
        (raw("context", '{"a": NaN}'), "range", "context"),
        (body(item_id=""), "id", "item_id"),
        (body(item_id="   "), "id", "item_id"),
        (body(item_id=LATE), "id", "item_id"),
        (body(item_id="a\0b"), "id", "item_id"),
        (body(item_id="a\x85b"), "id", "item_id"),
        (body(event_id=""), "id", "event_id"),
        (body(event_id="a\nb"), "id", "event_id"),
        (body(session_id="\t"), "id", "session_id"),
        (body(type="buy"), "unknown-type", "type"),
        (body(type=""), "unknown-type", "type"),
        (body(timestamp=0), "timestamp", "timestamp"),
        (body(timestamp=-5), "timestamp", "timestamp"),
        (body(timestamp=NOW_MS // 1000), "timestamp", "timestamp"),
        (body(timestamp=10**30), "timestamp", "timestamp"),
        (body(timestamp="0001-01-01T00:00:00Z"), "timestamp", "timestamp"),
        (body(timestamp="9999-12-31T23:59:59-10:00"), "timestamp", "timestamp"),
        (body(timestamp="2010-12-01"), "timestamp", "timestamp"),
        (body(timestamp="2010-12-01T08:26:00"), "timestamp", "timestamp"),
        (body(timestamp="2010-02-30T08:26:00Z"), "timestamp", "timestamp"),
        (body(timestamp="yesterday"), "timestamp", "timestamp"),
        (body(timestamp=NOW_MS + DAY_MS + 1), "timestamp", "timestamp"),
        (raw("item_id", '"\\ud800"'), "encoding", "item_id"),
        (body().replace(b'"i1"', b'"\xff"'), "encoding", "item_id"),
        (body(context={"long": "x" * 70_000}), "too-large", "body"),
        (raw("unknown", "[" * 30_000 + "]" * 30_000), "not-json", "body"),
    ],
)
def test_a_bad_event_is_refused_by_the_name_of_its_field(value, reason, field):
    assert refusal(value) == (reason, field)


@pytest.mark.parametrize("key", [None, b"", b"u2", b"\xff", b"u1 ", b"x" * 300])
def test_the_key_must_be_the_user_id(key):
    assert refusal(body(), key=key) == ("key", "key")


def test_a_blank_user_id_is_refused_though_its_key_agrees():
    assert refusal(body(user_id=" "), key=b" ") == ("id", "user_id")


@pytest.mark.parametrize(
    "timestamp",
    ["2010-12-01T08:26:00.5+02:00", "2010-12-01T06:26:00.500999Z", "2010-12-01 06:26:00.5z"],
)
def test_rfc_3339_becomes_milliseconds(timestamp):
    event = codec.decode(topics.BEHAVIOUR, record(body(timestamp=timestamp)))
    assert event.timestamp == 1291184760500


def test_the_future_is_measured_from_the_records_own_time():
    ahead = body(timestamp=NOW_MS + 5000)
    assert codec.decode(topics.BEHAVIOUR, record(ahead), future_ms_max=5000).timestamp
    with pytest.raises(DecodeError, match="future"):
        codec.decode(topics.BEHAVIOUR, record(ahead), future_ms_max=4999)
    for none in (-1, -2, -(10**15)):  # it would move the lane's clock, and forget its users
        with pytest.raises(DecodeError, match="no Kafka time"):
            codec.decode(topics.BEHAVIOUR, record(ahead, timestamp=none))


def test_a_cloudevents_id_serves_where_the_body_has_none():
    headers = [("ce_id", b"c-1"), ("traceparent", b"00-x")]
    assert codec.decode(topics.BEHAVIOUR, record(body(), headers=headers)).event_id == "c-1"
    own = codec.decode(topics.BEHAVIOUR, record(body(event_id="e-1"), headers=headers))
    assert own.event_id == "e-1"
    assert refusal(body(), headers=[("ce_id", b"\xff")]) == ("encoding", "ce_id")
    assert refusal(body(), headers=[("ce_id", b"x" * 300)]) == ("id", "ce_id")
    assert refusal(body(), headers=[("ce_id", b"a\0")]) == ("id", "ce_id")


def test_unknown_fields_are_ignored():
    event = codec.decode(topics.BEHAVIOUR, record(body(colour="red", nested={"a": [1]})))
    assert event == BehaviourEvent(user_id="u1", item_id="i1", type="view", timestamp=NOW_MS)


def test_a_chunk_is_split_without_disturbing_neighbours():
    values = [body(item_id="a"), b"nonsense", body(item_id="b"), body(value=-1)]
    records = [record(value, offset=offset) for offset, value in enumerate(values)]
    messages, good, bad = codec.decode_chunk(topics.BEHAVIOUR, records)
    assert [message.item_id for message in messages] == ["a", "b"]
    assert [r.offset for r in good] == [0, 2]
    assert [(r.offset, error.reason) for r, error in bad] == [(1, "not-json"), (3, "range")]


def test_a_tombstone_removes_a_product_and_nothing_else():
    assert codec.decode(topics.CATALOGUE, record(None, key=b"i1")) is None
    assert refusal(None, topics.CATALOGUE, key=None) == ("key", "key")
    assert refusal(None, topics.CATALOGUE, key=b"a\0") == ("id", "item_id")
    assert refusal(b"", topics.CATALOGUE, key=b"i1") == ("missing", "body")
    assert refusal(b'{"item_id":"i2"}', topics.CATALOGUE, key=b"i1") == ("key", "key")
    assert refusal(b'{"item_id":"i1","price":-1}', topics.CATALOGUE, key=b"i1")[0] == "range"


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"request_id": ""}, "id", "request_id"),
        ({"k": 0}, "range", "k"),
        ({"k": 1001}, "range", "k"),
        ({"context_items": ["a", ""]}, "id", "context_items[]"),
        ({"context_items": ["a", "b\0"]}, "id", "context_items[]"),
        ({"filter": {"items": ["a\n"]}}, "id", "filter.items[]"),
        ({"filter": {"exclude": ["\x7f"]}}, "id", "filter.exclude[]"),
        ({"filter": {"price_min": 5, "price_max": 4}}, "range", "filter.price_max"),
        ({"filter": {"price_min": "5"}}, "type", "filter.price_min"),
        ({"filter": {"items": ["a"] * 1001}}, "range", "filter.items"),
        ({"timestamp": 5}, "timestamp", "timestamp"),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_its_field(changes, reason, field):
    value = json.dumps({"user_id": "u1", "request_id": "r1"} | changes).encode()
    assert refusal(value, topics.REQUESTS) == (reason, field)


def embedding(**changes):
    fields = {
        "user_id": "u1", "upload_id": "p1", "timestamp": NOW_MS, "encoder": "e", "vector": bytes(8),
    } | changes  # fmt: skip
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        (embedding(vector=bytes(7)), "range", "vector"),
        (embedding(vector=b"\x00\x00\xc0\x7f"), "range", "vector"),
        (embedding(vector=b""), "range", "vector"),
        (embedding(encoder=""), "id", "encoder"),
        (embedding(timestamp=5), "timestamp", "timestamp"),
        (embedding(classes=[{"category": "a", "probability": float("nan")}]), "range",
         "classes[].probability"),
        (embedding(upload_id="\0"), "id", "upload_id"),
        (b"\xc1", "not-msgpack", "body"),
        (embedding()[:-3], "not-msgpack", "body"),
    ],
)  # fmt: skip
def test_a_bad_embedding_is_refused(value, reason, field):
    assert refusal(value, topics.IMAGE_EMBEDDINGS) == (reason, field)


ids = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256
).filter(lambda text: not text.isspace())
times = st.integers(TIMESTAMP_MS_MIN, NOW_MS + DAY_MS)
events = st.builds(
    BehaviourEvent,
    user_id=ids,
    item_id=ids,
    type=st.sampled_from(EVENT_TYPES),
    timestamp=times,
    event_id=st.none() | ids,
    value=st.none() | st.floats(0, 1e9),
    session_id=st.none() | ids,
    context=st.none()
    | st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=9),
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=3,
    ),
)


@given(events)
def test_an_event_comes_back_as_it_went(event):
    back = codec.decode(topics.BEHAVIOUR, record(codec.encode(event), key=event.user_id.encode()))
    assert back == event
    assert codec.encode(back) == codec.encode(event)


@given(times, st.integers(-14 * 60, 14 * 60))
def test_a_time_is_the_same_in_every_offset(time, offset_minutes):
    zone = timezone(timedelta(minutes=offset_minutes))
    moment = datetime.fromtimestamp(time // 1000, UTC) + timedelta(milliseconds=time % 1000)
    assert time_ms(moment.astimezone(zone)) == time
    text = moment.astimezone(zone).isoformat()
    assert codec.decode(topics.BEHAVIOUR, record(body(timestamp=text))).timestamp == time


MESSAGES = [
    (topics.CATALOGUE, b"i1", Product(item_id="i1", title="A", price=2.5, tags=["x"])),
    (topics.REQUESTS, b"u1", RecommendationRequest(
        user_id="u1", request_id="r", k=3, timestamp=NOW_MS, context_items=["i1"],
        filter=CandidateFilter(categories=["a"], price_max=3.0))),
    (topics.FORGET, b"u1", ForgetUser(user_id="u1", timestamp=NOW_MS)),
    (topics.RECOMMENDATIONS, b"u1", RankedList(
        list_id="l", user_id="u1", trigger=Trigger(kind="event", topic="t", partition=0, offset=1),
        items=[RankedItem(item_id="i", score=0.5, rank=1, sources=["a"], reason="b")],
        model_version="m", variant="v", event_time=NOW_MS, produced_time=NOW_MS)),
    (topics.IMAGE_EMBEDDINGS, b"u1", ImageEmbedding(
        user_id="u1", upload_id="p", timestamp=NOW_MS, encoder="e", vector=bytes(8),
        classes=[ClassProbability(category="c", probability=0.5)])),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "key", "message"), MESSAGES)
def test_every_message_comes_back_as_it_went(topic, key, message):
    assert codec.decode(topic, record(codec.encode(message), key=key)) == message


def mutated(valid: bytes):
    """Bytes near a valid body: flipped, cut, spliced, repeated."""
    position = st.integers(0, len(valid))
    return st.one_of(
        st.builds(lambda at, to, by: valid[:at] + by + valid[to:], position, position, st.binary()),
        st.builds(lambda at: valid[:at], position),
        st.builds(lambda at, by: valid[:at] + by + valid[at:], position, st.sampled_from([
            b"NaN", b"\x00", b"\xff", b"\xed\xa0\x80", b"null", b"1e999", b"-", b'"', b"[" * 2000,
            b'{"a":' * 2000, b"9" * 5000, b"\\ud800", b"\\u0000", b"\xef\xbb\xbf",
        ])),
        st.binary(),
    )  # fmt: skip


@pytest.mark.parametrize("topic_and_valid", [
    (topics.BEHAVIOUR, b"u1", body(value=1.5, event_id="e", context={"a": "b"})),
    *[(topic, key, codec.encode(message)) for topic, key, message in MESSAGES],
])  # fmt: skip
def test_mutated_records_raise_decode_errors_and_nothing_else(topic_and_valid):
    topic, key, valid = topic_and_valid
    assert codec.decode(topic, record(valid, key=key)) is not None

    @given(
        mutated(valid) | st.none(),
        st.just(key) | st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.sampled_from(["ce_id", "x"]), st.none() | st.binary(max_size=300))),
        st.integers(-1, 2**63 - 1),
    )
    @example(raw("x", "[" * 900 + "NaN" + "]" * 900), key, [], NOW_MS)
    def check(value, key, headers, timestamp):
        messages, good, bad = codec.decode_chunk(
            topic, [record(value, key=key, headers=headers, timestamp=timestamp)]
        )
        assert len(messages) == len(good) == 1 - len(bad)
        for _, error in bad:
            assert error.reason in codec.REASONS
            assert error.field
            assert len(error.message) <= 300

    check()
