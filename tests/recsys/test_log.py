import gzip
import hashlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.log import BehaviourLog, tell_time_unit
from recsys.log_columns import PRODUCT_COLUMNS, parse_mapping
from recsys.log_sources import LogError
from recsys.product_log import ProductLog
from streams.codec import DecodeError
from tests.records import NOW_MS, body


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        data = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def read(path, mapping="", time_unit=None):
    return list(BehaviourLog(path, parse_mapping(mapping), time_unit))


def good(path, mapping="", time_unit=None):
    rows = read(path, mapping, time_unit)
    assert not [row for row in rows if isinstance(row[1], DecodeError)]
    return [event for _, event in rows]


MOVIES = "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n7,1029,3.0,1260759179\n"


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.gz", "RATINGS.CSV"])
def test_a_log_with_known_columns_needs_no_mapping(write, name):
    log = BehaviourLog(write(name, MOVIES))
    rows = list(log)
    assert [number for number, _ in rows] == [2, 3]
    event = rows[0][1]
    assert (event.user_id, event.item_id, event.type, event.value) == ("1", "31", "rating", 2.5)
    assert event.timestamp == 1260759144000
    assert log.digest == hashlib.sha256(log.path.read_bytes()).hexdigest()
    assert event.event_id == f"{log.digest[:16]}-2"
    assert log.notes == [
        "user_id is read from the column userId",
        "item_id is read from the column movieId",
        "value is read from the column rating",
        "every event is taken for a rating",
        "timestamps are taken for seconds",
    ]
    assert 0 < log.position() <= log.size_bytes


def test_a_shops_log(write):
    text = (
        "timestamp,user_id,item_id,type,quantity,basket_id,price\n"
        "2010-12-01T08:26:00Z,17850,85123A,purchase,6,536365,2.55\n"
        "2010-12-01 08:26:01,17850,71053,return,,536365,3.39\n"
    )
    first, second = good(write("shop.csv", text))
    assert (first.type, first.value, first.session_id) == ("purchase", 6.0, "536365")
    assert (first.timestamp, second.timestamp) == (1291191960000, 1291191961000)
    assert second.value is None


def test_recbole(write):
    text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n"
    (event,) = good(write("ml-100k.inter", text))
    assert (event.user_id, event.item_id, event.value) == ("196", "242", 3.0)
    assert event.timestamp == 881250949000


def test_a_mapping_with_constants_goes_before_the_names(write):
    path = write("a.csv", "who;what;when;rating\nann;x;1700000000;4\n")
    mapping = "user_id=who,item_id=what,timestamp=when,type=:view,value=:"
    (event,) = good(path, mapping)
    assert (event.user_id, event.type, event.value) == ("ann", "view", None)
    (dated,) = good(path, "user_id=who,item_id=what,timestamp=:2020-01-01T00:00:00Z")
    assert (dated.timestamp, dated.type) == (1577836800000, "rating")


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        ("1700000000", "s", "seconds"),
        ("1700000000.5", "s", "seconds"),
        ("1700000000000", "ms", None),
        ("1700000000000000", "us", "microseconds"),
        ("1700000000000000000", "ns", "nanoseconds"),
        ("2023-11-14T22:13:20Z", "iso", None),
        ("2023-11-14 22:13:20+00:00", "iso", None),
        ("2023-11-14", "iso", None),
    ],
)
def test_the_unit_of_time_is_told_from_the_values_and_said(write, value, unit, told):
    log = BehaviourLog(write("a.csv", f"user_id,item_id,timestamp\nu,i,{value}\n"))
    assert log.time_unit == unit
    assert told is None or f"timestamps are taken for {told}" in log.notes
    ((_, event),) = log
    assert event.timestamp // 86_400_000 == NOW_MS // 86_400_000


def test_a_given_unit_is_taken_at_its_word(write):
    path = write("a.csv", "user_id,item_id,timestamp\nu,i,1700000000000\n")
    ((_, error),) = read(path, time_unit="s")
    assert (error.reason, error.field) == ("timestamp", "timestamp")


@pytest.mark.parametrize("values", [["1700000000", "2020-01-01"], [1, 1e12], []])
def test_a_unit_that_can_not_be_told_must_be_said(values):
    with pytest.raises(LogError, match="--time-unit"):
        tell_time_unit(values)


def test_json_lines_of_the_contract(write):
    lines = [
        body(event_id="e", context={"page": "x"}, value=2),
        body(timestamp="2023-11-14T22:13:20Z", user_id=7),
        b"",
        b"nonsense",
        b"[1]",
        body(type="buy"),
        body(item_id=None),
        body(timestamp={"a": 1}),
        b'{"user_id": "\xff", "item_id": "i", "type": "view", "timestamp": 1700000000000}',
    ]
    rows = read(write("a.jsonl.gz", b"\n".join(lines) + b"\n"))
    events = [event for _, event in rows if not isinstance(event, DecodeError)]
    assert [event.event_id[:1] for event in events[:1]] == ["e"]
    assert events[0].context == {"page": "x"}
    assert (events[1].user_id, events[1].timestamp) == ("7", NOW_MS)
    assert [(n, e.reason, e.field) for n, e in rows if isinstance(e, DecodeError)] == [
        (4, "not-json", "row"),
        (5, "type", "row"),
        (6, "unknown-type", "type"),
        (7, "missing", "item_id"),
        (8, "timestamp", "timestamp"),
        (9, "not-json", "row"),
    ]


def test_json_lines_with_names_of_their_own(write):
    path = write("a.ndjson", json.dumps({"u": 1, "p": 2, "t": 1700000000}))
    (event,) = good(path, "user_id=u,item_id=p,timestamp=t,type=:click")
    assert (event.user_id, event.item_id, event.timestamp) == ("1", "2", NOW_MS)


@pytest.mark.parametrize(
    ("row", "reason", "field"),
    [
        ("u,i,view", "type", "row"),
        ("u,i,view,1700000000,1,2", "type", "row"),
        (",i,view,1700000000,1", "missing", "user_id"),
        ("u, ,view,1700000000,1", "id", "item_id"),
        ("u,a\x07b,view,1700000000,1", "id", "item_id"),
        ("u,i,buy,1700000000,1", "unknown-type", "type"),
        ("u,i,view,soon,1", "timestamp", "timestamp"),
        ("u,i,view,nan,1", "timestamp", "timestamp"),
        ("u,i,view,-5,1", "timestamp", "timestamp"),
        ("u,i,view,,1", "missing", "timestamp"),
        ("u,i,view,1700000000,-1", "range", "value"),
        ("u,i,view,1700000000,NaN", "range", "value"),
        ("u,i,view,1700000000,many", "type", "value"),
        (f"{'x' * 300},i,view,1700000000,1", "id", "user_id"),
        (f'"{"x" * 200_000}",i,view,1700000000,1', "type", "row"),
    ],
)
def test_a_bad_row_is_refused_by_its_number_and_its_neighbours_are_read(write, row, reason, field):
    head = "user_id,item_id,type,timestamp,value\nu,1,view,1700000000,1\n"
    text = f"{head}{row}\nu,2,view,1700000000,\n"
    before, bad, after = read(write("a.csv", text), time_unit="s")
    assert (before[1].item_id, after[1].item_id) == ("1", "2")
    number, error = bad
    assert (number, error.reason, error.field) == (3, reason, field)


def logged(lines):
    return [f"u{n},i{n},view,{NOW_MS}\n" for n in range(lines)]


def as_told(rows):
    return [
        (number, row.message if isinstance(row, DecodeError) else row.user_id)
        for number, row in rows
    ]


@pytest.mark.parametrize(
    "last", ["", f"u1,a,view,{NOW_MS},"], ids=["short", "last line without an end"]
)
@pytest.mark.parametrize("quoted", [(49,), (0, 49), (9, 10, 49)])
@pytest.mark.parametrize("lines", [200, 9000], ids=["to the end", "to the field's limit"])
def test_a_quote_that_is_not_closed_costs_its_own_line(write, lines, quoted, last):
    rows = logged(lines)
    for n in quoted:
        rows[n] = f'u{n},"i{n},view,{NOW_MS}\n'
    told = as_told(read(write("a.csv", "".join(["user,item,type,time\n", *rows, last]))))
    want = [(n + 2, "a quote is not closed" if n in quoted else f"u{n}") for n in range(lines)]
    assert told[:lines] == want
    assert told[lines:] == ([(lines + 2, "has 5 fields, the header has 4")] if last else [])


def test_a_quote_at_the_end_that_is_not_closed_is_told(write):
    text = f'user,item,type,time\nu1,a,view,{NOW_MS}\nu2,"b,view,{NOW_MS}'
    assert as_told(read(write("a.csv", text))) == [(2, "u1"), (3, "a quote is not closed")]


def test_a_quote_that_another_lines_quote_closes_costs_no_line_between(write):
    rows = logged(40)
    rows[10], rows[20] = f'u10,"i10,view,{NOW_MS}\n', f'u20,"i20",view,{NOW_MS}\n'
    rows[30], rows[35] = f'u30,"i30,view,{NOW_MS}\n', f'u35,i35,view,{NOW_MS}",\n'
    told = dict(as_told(read(write("a.csv", "".join(["user,item,type,time\n", *rows])))))
    bad = {number: told.pop(number) for number in (12, 32, 37)}
    assert told == {n + 2: f"u{n}" for n in range(40) if n not in (10, 30, 35)}
    assert bad[12] == "a quote is not closed"
    assert bad[32] == "has 3 fields, the header has 4"


def test_a_quoted_field_may_span_lines_and_its_record_is_known_by_the_first(write):
    text = (
        'item_id,title\n1,"two\nlines"\n2,one\n\n3,"three\r\n""lines""\n"\n4,"Great" Deeds\n'
        '5,"Great" Deeds,"and\n6,fine\n7,"' + "x" * 140_000 + '"\n8,"",\n'
    )
    rows = list(ProductLog(write("a.csv", text)))
    read = [(number, row.title) for number, row in rows if not isinstance(row, DecodeError)]
    assert read == [
        (2, "two\nlines"), (4, "one"), (6, 'three\r\n"lines"'), (9, "Great Deeds"), (11, "fine"),
    ]  # fmt: skip
    refused = [(number, row.message) for number, row in rows if isinstance(row, DecodeError)]
    assert refused == [
        (10, "a quote is not closed"),
        (12, "field larger than field limit (131072)"),
        (13, "has 3 fields, the header has 2"),
    ]


def test_text_that_is_not_utf_8_is_refused_by_its_number(write):
    data = b"user_id,item_id,timestamp\nu\xff,i,1700000000\nu,i,1700000000\n"
    (number, error), (_, event) = read(write("a.csv", data))
    assert (number, error.reason, error.field) == (2, "encoding", "user_id")
    assert event.user_id == "u"


def test_a_byte_order_mark_is_no_part_of_a_name(write):
    assert good(write("a.csv", b"\xef\xbb\xbfuser_id,item_id,timestamp\nu,i,1700000000\n"))
    assert good(write("a.jsonl", b"\xef\xbb\xbf" + body()))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "is empty"),
        ("a.xlsx", "x", "none of the endings"),
        ("a.csv", "a,b,c\n1,2,3\n", "--map user_id=COLUMN"),
        ("a.jsonl", "nonsense\n", "--map user_id=COLUMN"),
        ("a.csv", "user_id,item_id,timestamp\n", "--time-unit"),
        ("a.parquet", "x", "arquet"),
    ],
)
def test_a_log_that_can_not_be_read_is_said_in_a_sentence(write, name, text, told):
    with pytest.raises(LogError, match=told):
        BehaviourLog(write(name, text))


def inside_out(zipped: bytes) -> bytes:
    """A block of a type that deflate does not have."""
    return zipped[:10] + b"\x07" + zipped[11:]


@pytest.mark.parametrize("harm", [lambda zipped: zipped[:-40], inside_out], ids=["cut", "inside"])
def test_damaged_gzip_is_said_in_a_sentence(tmp_path, harm):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(harm(gzip.compress(MOVIES.encode() * 1000)))
    with pytest.raises(LogError, match="damaged"):
        read(path, time_unit="s")


@pytest.mark.parametrize(
    ("text", "told"),
    [("user_id", "is not field=COLUMN"), ("a=b", "is no field"), ("user_id=", "is not field")],
)
def test_a_wrong_mapping_is_named(text, told):
    with pytest.raises(LogError, match=told):
        parse_mapping(text)


def test_a_column_that_is_not_there_is_named(write):
    with pytest.raises(LogError, match="no column 'x' for user_id; it has userId"):
        BehaviourLog(write("a.csv", MOVIES), {"user_id": "x"})
    with pytest.raises(LogError, match=r"none\.csv is not there"):
        BehaviourLog(write("a.csv", MOVIES).with_name("none.csv"))


PRODUCTS = """StockCode,Description,UnitPrice,in_stock,tags,genres
85123A, WHITE HEART ,2.55,true,a|b,x|y
71053,LANTERN,,false,,
,NOTHING,1,,,
1,DEAR,-1,,,
a\x07,BELL,,,,
"""


def test_products(write):
    log = ProductLog(write("items.csv.gz", PRODUCTS.encode() + b"9,\xff,,,,\n"))
    assert "title is read from the column Description" in log.notes
    (_, first), (_, second), *bad = log
    assert (first.item_id, first.title, first.price) == ("85123A", "WHITE HEART", 2.55)
    assert (first.available, first.tags, first.category) == (True, ["a", "b"], "x|y")
    assert (second.price, second.available, second.tags) == (None, False, [])
    assert [(n, e.reason, e.field) for n, e in bad] == [
        (4, "missing", "item_id"),
        (5, "range", "price"),
        (6, "id", "item_id"),
        (7, "encoding", "row"),
    ]
    assert log.position() == log.size_bytes
    with pytest.raises(LogError, match="no column"):
        ProductLog(write("a.csv", "x\n1\n"))


def test_products_of_the_contract(write):
    lines = b'{"item_id": 5, "title": "A", "price": 2, "tags": ["x"]}\n{"title": "B"}\nnonsense\n'
    (_, product), (_, missing), (_, broken) = ProductLog(write("items.jsonl", lines))
    assert (product.item_id, product.price, product.tags) == ("5", 2.0, ["x"])
    assert (missing.field, broken.reason) == ("item_id", "not-json")
    mapped = parse_mapping("item_id=title,brand=:Own", PRODUCT_COLUMNS)
    (_, mapped_product), *_ = ProductLog(write("b.jsonl", lines), mapped)
    assert (mapped_product.item_id, mapped_product.brand) == ("A", "Own")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = pyarrow.table({"userId": [1, 2], "sku": ["a", None], "time": [1.7e9, 1.7e9]})
    parquet.write_table(table, path)
    log = BehaviourLog(path)
    (first, event), (second, error) = log
    assert (first, event.user_id, event.item_id, event.timestamp) == (1, "1", "a", NOW_MS)
    assert (second, error.reason, error.field) == (2, "missing", "item_id")
    assert log.position() == log.size_bytes


def test_integers_of_a_finer_unit_lose_nothing_to_floats(write):
    for unit, digits in (("us", 3), ("ns", 6)):
        text = f"user_id,item_id,timestamp\nu,i,{NOW_MS + 1}{'0' * digits}\n"
        (event,) = good(write("a.csv", text), time_unit=unit)
        assert event.timestamp == NOW_MS + 1


@pytest.mark.parametrize(
    "users", [[12.0, 13.0], [Decimal(12), Decimal(13)], [Decimal("12.00"), Decimal("13.00")]]
)
def test_parquet_ids_that_are_whole_numbers_are_their_digits(tmp_path, users):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = {"user_id": users, "item_id": [1.0, None], "timestamp": [NOW_MS, NOW_MS]}
    parquet.write_table(pyarrow.table(table), path)
    (_, event), (_, error) = BehaviourLog(path)
    assert (event.user_id, event.item_id) == ("12", "1")
    assert (error.reason, error.field) == ("missing", "item_id")


def test_parquet_ids_that_are_no_whole_numbers_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = {"user_id": [1.5, float("inf")], "item_id": ["a", "b"], "timestamp": [NOW_MS] * 2}
    parquet.write_table(pyarrow.table(table), path)
    assert [error.field for _, error in BehaviourLog(path)] == ["user_id", "user_id"]


def test_a_nan_in_parquet_is_nothing(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path, nan = tmp_path / "a.parquet", float("nan")
    for kind in (pyarrow.float32(), pyarrow.float64()):
        table = {
            "user_id": ["u"] * 3, "item_id": ["a"] * 3, "timestamp": [nan, 1.7e9, 1.7e9],
            "value": pyarrow.array([1.0, nan, 2.0], kind),
        }  # fmt: skip
        parquet.write_table(pyarrow.table(table), path)
        (_, error), (_, without), (_, valued) = BehaviourLog(path)
        assert (error.reason, error.field) == ("missing", "timestamp")
        assert (without.timestamp, without.value, valued.value) == (NOW_MS, None, 2.0)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet_with_nanoseconds_as_pandas_writes_it(tmp_path, zone):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    times = pyarrow.array([NOW_MS * 1_000_000 + 1, None], pyarrow.timestamp("ns", zone))
    parquet.write_table(
        pyarrow.table({"user": ["u1", "u2"], "item": ["a", "b"], "time": times}), path
    )
    (_, event), (_, error) = BehaviourLog(path)
    assert event.timestamp == NOW_MS
    assert (error.reason, error.field) == ("missing", "timestamp")


def test_a_damaged_parquet_file_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    users = [str(n) for n in range(5000)]
    table = pyarrow.table({"user": users, "item": users, "time": [NOW_MS] * 5000})
    parquet.write_table(table, path)
    data = bytearray(path.read_bytes())
    data[100:140] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(LogError, match=r"a\.parquet is damaged: "):
        list(BehaviourLog(path))


@given(st.lists(st.binary(max_size=60), max_size=20), st.sampled_from(["a.csv", "a.jsonl"]))
def test_no_content_raises_anything_but_what_is_documented(tmp_path_factory, lines, name):
    path = tmp_path_factory.mktemp("log") / name
    head = b"user_id,item_id,timestamp\n" if name == "a.csv" else body() + b"\n"
    path.write_bytes(head + b"\n".join(lines))
    try:
        for number, event in BehaviourLog(path, time_unit="iso"):
            assert number >= 1
            assert event.user_id if not isinstance(event, DecodeError) else event.field
    except LogError:
        pass
