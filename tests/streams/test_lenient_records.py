import gzip

import cramjam
import pytest
from aiokafka.codec import lz4_encode, snappy_encode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.lenient_records import RECORDS_MAX, LenientRecords
from streams.unpacking import GZIP, LZ4, SNAPPY, UNPACKED_BYTES_MAX, ZSTD
from tests.records import raw_batch, raw_record, varint

NAME = b"caf\xe9"  # Latin-1


class RawName(str):
    """A header name that goes onto the wire as bytes of our choosing."""

    def encode(self, *_):
        return NAME


def batch(*headers, records=2, compression=0):
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, 0, 1 << 20)
    for offset in range(records):
        builder.append(offset, 1000 + offset, b"k%d" % offset, b"v" * 500, list(headers))
    return bytes(builder.build())


def read(data):
    records, batches = LenientRecords(data), []
    while records.has_next():
        batches.append(records.next_batch())
    assert records.next_batch() is None
    return batches


def test_good_batches_are_read_as_ever():
    data = batch(("a", b"1"), ("b", None)) + batch(records=3)
    first, second = read(data)
    assert first.validate_crc()
    assert not first.is_control_batch
    assert [(r.key, r.headers) for r in first] == [
        (b"k0", [("a", b"1"), ("b", None)]),
        (b"k1", [("a", b"1"), ("b", None)]),
    ]
    assert [r.offset for r in second] == [0, 1, 2]
    assert LenientRecords(data).size_in_bytes() == len(data)


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_a_header_name_that_is_not_utf_8_is_spelt_out(compression):
    data = batch((RawName("x"), b"1"), ("b", b"2"), compression=compression) + batch()
    with pytest.raises(UnicodeDecodeError):  # the day this is mended, this module can go
        list(MemoryRecords(data).next_batch())
    broken, after = read(data)
    records = list(broken)
    assert [r.headers for r in records] == [[("caf\\xe9", b"1"), ("b", b"2")]] * 2
    assert [(r.key, r.value, r.timestamp) for r in records] == [
        (b"k0", b"v" * 500, 1000),
        (b"k1", b"v" * 500, 1001),
    ]
    assert len(list(after)) == 2


def test_old_formats_pass():
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
    builder.append(0, timestamp=1000, key=b"k", value=b"v")
    (old,) = read(bytes(builder.build()))
    assert [(r.key, r.value) for r in old] == [(b"k", b"v")]


def told(data):
    (one,) = read(data)
    assert one.validate_crc()
    return [(each.offset, each.key, each.value) for each in one]


PACKERS = {
    "gzip": (GZIP, gzip.compress),
    "snappy": (SNAPPY, cramjam.snappy.compress_raw),
    "xerial": (SNAPPY, snappy_encode),
    "lz4": (LZ4, lz4_encode),
    "zstd": (ZSTD, cramjam.zstd.compress),
}


@pytest.mark.parametrize("places", [(0, 1000, 2), (0, 1, 2**31 - 1), (0, -7, 2), (5, 5, 5)])
def test_offsets_are_those_that_the_broker_gave(places):
    data = raw_batch(*(raw_record(place, value=b"%d" % n) for n, place in enumerate(places)))
    assert told(data) == [(50, b"k", b"0"), (51, b"k", b"1"), (52, b"k", b"2")]


@pytest.mark.parametrize(
    ("places", "offsets"),
    [((1, 7), [51, 57]), ((0, 9), [50, 59]), ((3, 99), [53, 59]), ((99, 4), [58, 59])],
)
def test_compacted_batches_keep_their_gaps(places, offsets):
    data = raw_batch(*(raw_record(place) for place in places), last=9)
    assert [offset for offset, *_ in told(data)] == offsets


@pytest.mark.parametrize("packer", [None, *PACKERS.values()], ids=["plain", *PACKERS])
def test_a_byte_of_attributes_is_a_byte(packer):
    odd = raw_record(0, attributes=0x80, headers=varint(1) + varint(1) + b"h" + varint(2) + b"ab")
    data = raw_batch(odd, raw_record(1, later_ms=5), compress=packer)
    (one,) = read(data)
    assert [(r.offset, r.timestamp, r.headers) for r in one] == [
        (50, 1000, [("h", b"ab")]),
        (51, 1005, []),
    ]


@pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS)
def test_what_unpacks_to_too_much_is_one_record_that_says_so(packer):
    large = raw_record(0, value=bytes(UNPACKED_BYTES_MAX))
    ((offset, key, value),) = told(raw_batch(large, raw_record(1), compress=packer))
    assert (offset, key) == (51, None)
    assert value == b"a batch of 2 records unpacks to more than 33,554,432 bytes"
    fits = raw_record(0, value=bytes(UNPACKED_BYTES_MAX - 100))
    assert len(told(raw_batch(fits, compress=packer))) == 1


def test_what_cannot_be_unpacked_is_one_record_too():
    for codec in (GZIP, SNAPPY, LZ4, ZSTD, 7):
        data = raw_batch(raw_record(0), raw_record(1), compress=(codec, lambda _: b"nonsense"))
        ((offset, key, value),) = told(data)
        assert (offset, key) == (51, None)
        assert b"cannot be unpacked" in value or b"unknown codec" in value or b"more than" in value


def test_a_batch_of_too_many_records_is_one_that_says_so():
    many = [raw_record(n, value=b"") for n in range(RECORDS_MAX + 1)]
    ((offset, _, value),) = told(raw_batch(*many, compress=PACKERS["zstd"]))
    assert offset == 50 + RECORDS_MAX
    assert value == b"a batch of 100001 records has more than 100,000"


@given(st.binary(max_size=60), st.integers(1, 3))
def test_whatever_lies_in_a_batch_ends_within_its_offsets(garbage, count):
    offsets = [offset for offset, *_ in told(raw_batch(garbage, count=count, last=count - 1))]
    assert offsets == sorted(set(offsets))
    assert 50 <= offsets[0] <= offsets[-1] == 50 + count - 1


def test_numbers_whose_upper_bits_a_broker_drops_are_read_as_it_reads_them():
    size = bytes([0x84, 0x80, 0x80, 0x80, 0x70])  # 2, and bits from the 33rd on
    body = bytes([0]) + varint(0) + varint(0) + size + b"u1" + varint(1) + b"v" + varint(0)
    data = raw_batch(varint(len(body)) + body)
    with pytest.raises(CorruptRecordException):
        list(MemoryRecords(data).next_batch())
    assert told(data) == [(50, b"u1", b"v")]
