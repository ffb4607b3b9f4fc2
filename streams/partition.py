"""Which lane a key belongs to: murmur2, as Java clients and aiokafka spread keys."""

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`.

    >>> partition_of(b"u17850", 4)
    1
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
