"""Which lane a key belongs to: murmur2, as Java clients and aiokafka spread keys."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(1 << 17)  # the hash costs 2 us, and users come again
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`.

    >>> partition_of(b"u17850", 4)
    1
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
