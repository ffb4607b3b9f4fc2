import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.lenient_records import LenientRecords

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
