"""Pictures that someone might send in malice or by accident, each made here from nothing."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(width=160, height=120, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels=None, extra=b"", depth=8, colour=2):
    """A PNG by hand: any size may be claimed, any chunk put in before the pixels."""
    if pixels is None:
        pixels = b"\0" * (height * (1 + width * 3))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + data + chunk(b"IEND", b"")


def frames(kind, count):
    first, *rest = [picture(32, 32, seed=n % 7) for n in range(count)]
    return encoded(first, kind, save_all=True, append_images=rest)


def scans(passes):
    """A progressive JPEG whose last pass is said over and over."""
    data = encoded(picture(), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * passes + data[-2:]


def with_exif(*entries, count=None):
    """A JPEG whose EXIF holds (tag, type, count, value) entries and may lie about their number."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    number = len(entries) if count is None else count
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", number) + body + struct.pack("<I", 8)
    return encoded(picture(), "JPEG", exif=block)


def zipped_texts():
    texts = (chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(bytes(1_000_000), 9)) for n in range(80))
    return png(32, 32, extra=b"".join(texts))


def hostile():
    """name -> (bytes, content type said, reason expected)."""
    bomb_profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(5_000_000), 9))
    return {
        "no bytes": (b"", None, "empty"),
        "text": (b"hello, I am no picture", None, "not-image"),
        "zeros": (bytes(4096), None, "not-image"),
        "script": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "not-image"),
        "gif": (encoded(picture(), "GIF"), "image/gif", "not-image"),
        "tiff": (encoded(picture(), "TIFF"), "image/tiff", "not-image"),
        "wrong type": (encoded(picture(), "PNG"), "image/jpeg", "content-type"),
        "type of no picture": (encoded(picture(), "PNG"), "text/html", "content-type"),
        "too many bytes": (encoded(picture(), "JPEG") + bytes(9_000_000), None, "bytes"),
        "JPEG cut": (encoded(picture(), "JPEG")[:2000], None, "truncated"),
        "PNG cut": (encoded(picture(), "PNG")[:2000], None, "truncated"),
        "WebP cut": (encoded(picture(), "WEBP")[:2000], None, "truncated"),
        "WebP of 15 bytes": (encoded(picture(), "WEBP")[:15], None, "truncated"),
        "magic alone": (b"\xff\xd8\xff" + bytes(range(256)), None, "corrupt"),
        "PNG magic alone": (b"\x89PNG\r\n\x1a\n", None, "corrupt"),
        "bomb": (png(60_000, 60_000, b""), None, "pixels"),
        "bomb below Pillow's own bound": (png(9_000, 9_000, b""), None, "pixels"),
        "WebP bomb": (encoded(Image.new("RGB", (9000, 5000)), "WEBP", method=0), None, "pixels"),
        "hundreds of passes": (scans(500), None, "pixels"),
        "one pixel": (png(1, 1), None, "too-small"),
        "one row": (png(5000, 1), None, "too-small"),
        "moving PNG": (frames("PNG", 3), None, "animated"),
        "moving WebP": (frames("WEBP", 3), None, "animated"),
        "a thousand frames": (frames("WEBP", 1000), None, "animated"),
        "EXIF longer than the file": (with_exif((0x0112, 3, 2**32 - 1, 8)), None, "metadata"),
        "EXIF of 65535 entries": (with_exif((0x0112, 3, 1, 6), count=65535), None, "metadata"),
        "colour profile bomb": (png(32, 32, extra=bomb_profile), None, "metadata"),
        "compressed texts": (zipped_texts(), None, "metadata"),
    }
