"""Headers are read like fields: each fault names the header."""

import pytest

from streams import headers
from streams.codec import DecodeError
from tests.records import NOW_MS, record


def with_header(value, name="recsys-k"):
    return record(b"u", b"x", headers=[(name, value)])


def test_text_number_and_time():
    assert headers.text(with_header("zwölf".encode()), "recsys-k") == "zwölf"
    assert headers.text(with_header(b"1"), "other") is None
    assert headers.number(with_header(b"12"), "recsys-k", 1, 20) == 12
    assert headers.number(with_header(b"12"), "other", 1, 20) is None
    assert headers.time(with_header(b"2010-12-01T08:26:00Z"), "recsys-k") == 1291191960000
    assert headers.time(with_header(b"1291191960000"), "recsys-k") == 1291191960000
    mine = with_header(b"1")
    assert headers.time(mine, "other") == mine.timestamp


@pytest.mark.parametrize("value", [b"2023-11-15T22:13:21Z", b"4102444799000"])
def test_a_time_far_ahead_of_the_record(value):
    with pytest.raises(DecodeError, match=r"recsys-k: .* too far in the future"):
        headers.time(with_header(value), "recsys-k")
    assert headers.time(with_header(b"2023-11-15T22:13:20Z"), "recsys-k") == NOW_MS + 86_400_000
    with pytest.raises(DecodeError, match="future"):
        headers.time(with_header(b"1700000002000"), "recsys-k", 1_000)


@pytest.mark.parametrize("value", [b"0", b"21", b"-1", b"1.5", b"abc", "\u0663".encode()])
def test_a_number_out_of_bounds(value):
    with pytest.raises(DecodeError, match="recsys-k") as caught:
        headers.number(with_header(value), "recsys-k", 1, 20)
    assert caught.value.reason == "range"


@pytest.mark.parametrize("value", [b"yesterday", b"2010-12-01T08:26:00", b"12", b"9" * 20])
def test_a_time_that_is_none(value):
    with pytest.raises(DecodeError, match="recsys-k") as caught:
        headers.time(with_header(value), "recsys-k")
    assert caught.value.reason == "timestamp"


@pytest.mark.parametrize(
    ("value", "reason"), [(b"\xff", "encoding"), (b"a\x00", "id"), (b"a" * 300, "id")]
)
def test_text_that_is_none(value, reason):
    with pytest.raises(DecodeError) as caught:
        headers.text(with_header(value), "recsys-k")
    assert caught.value.reason == reason
