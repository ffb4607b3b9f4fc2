"""What a picture file says of itself in its first structures, read without decoding anything.

Enough to refuse what a decoder should not be shown: the format by its magic bytes, whether it
moves, and how many passes a JPEG asks for (a progressive one may ask for thousands).
Sources: ITU-T T.81 (JPEG), W3C PNG (third edition), RFC 9649 (WebP).
"""

import struct
from typing import NamedTuple


class Header(NamedTuple):
    """`format` as Pillow names it; `scans` is counted for JPEG alone, `whole` told for WebP."""

    format: str
    animated: bool = False
    scans: int = 1
    whole: bool = True


def read(data: bytes) -> Header | None:
    """The header, or None where the first bytes are of no format we take.

    >>> read(b"GIF89a") is None
    True
    """
    if data.startswith(b"\xff\xd8\xff"):
        # inside coded data 0xFF is always followed by 0 or a restart, so this counts scans
        return Header("JPEG", scans=data.count(b"\xff\xda"))
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Header("PNG", animated=_png_animated(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        moves = data[12:16] == b"VP8X" and any(flags & 0x02 for flags in data[20:21])
        length = int.from_bytes(data[4:8], "little")
        return Header("WEBP", animated=moves, whole=8 + length <= len(data))
    return None


def _png_animated(data: bytes) -> bool:
    """Whether a chunk `acTL` stands before the pixels, as an animation must have it."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind in (b"acTL", b"IDAT", b"IEND"):
            return bool(kind == b"acTL")
        place += 12 + length
    return False
