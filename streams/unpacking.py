"""Unpacking what producers compressed, up to a bound: a broker counts bytes as they were sent.

A hundred kilobytes of zstd may hold gigabytes, and whoever reads them has to stop before.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import cramjam

UNPACKED_BYTES_MAX = 32 << 20  # a batch of a megabyte of JSON has ten to twenty
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4  # as in a batch's attributes
_GZIP_FORMAT = 31  # for zlib: a gzip header, and the largest window
_FIRST_RATIO = 8
_FIRST_BYTES = 1 << 16
_XERIAL = b"\x82SNAPPY\x00"  # blocks of snappy in a frame of the Java library's own
_XERIAL_HEAD = 16


class UnpackError(ValueError):
    """It does not unpack, or to more than the bound."""


def unpack(codec: int, packed: bytes) -> bytes:
    """The bytes that `codec` packed. Raises UnpackError.

    >>> unpack(GZIP, zlib.compress(b"many words", wbits=31))
    b'many words'
    """
    try:
        match codec:
            case 1:
                return _gunzip(packed)
            case 2:
                return _unsnap(packed)
            case 3:
                return _into(cramjam.lz4.decompress_into, packed)
            case 4:
                return _into(cramjam.zstd.decompress_into, packed)
            case _:
                raise UnpackError(f"is compressed by an unknown codec, {codec}")
    except (zlib.error, cramjam.DecompressionError, struct.error) as error:
        raise UnpackError(f"cannot be unpacked: {error}") from None


def _too_large() -> UnpackError:
    return UnpackError(f"unpacks to more than {UNPACKED_BYTES_MAX:,} bytes")


def _gunzip(packed: bytes) -> bytes:
    parts, room = [], UNPACKED_BYTES_MAX
    while packed:  # gzip files may follow one another
        member = zlib.decompressobj(_GZIP_FORMAT)
        parts.append(member.decompress(packed, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise _too_large()
        if not member.eof:
            raise UnpackError("cannot be unpacked: it is cut off")
        packed = member.unused_data
    return b"".join(parts)


def _unsnap(packed: bytes) -> bytes:
    if not packed.startswith(_XERIAL):
        return _unsnap_blocks([packed])
    blocks, at = [], _XERIAL_HEAD
    while at < len(packed):
        (size,) = struct.unpack_from(">I", packed, at)
        blocks.append(packed[at + 4 : at + 4 + size])
        at += 4 + size
    return _unsnap_blocks(blocks)


def _unsnap_blocks(blocks: list[bytes]) -> bytes:
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > UNPACKED_BYTES_MAX:
        raise _too_large()
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _into(decompress_into: Callable[[bytes, Any], int], packed: bytes) -> bytes:
    """Into room that grows, for neither format need tell how much there will be."""
    size = max(_FIRST_BYTES, _FIRST_RATIO * len(packed))
    while True:
        room = bytearray(min(size, UNPACKED_BYTES_MAX))
        try:
            return bytes(memoryview(room)[: decompress_into(packed, room)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
            if size >= UNPACKED_BYTES_MAX:
                raise _too_large() from None
            size *= _FIRST_RATIO
