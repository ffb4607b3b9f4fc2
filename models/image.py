"""A picture from bytes that anyone may have sent: decoded within bounded time and memory.

What is refused raises `BadImage`, whose reason is one word for the dead letter. Colour profiles
are not applied: they would run a parser over hostile bytes for a shade that no encoder sees.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from models import image_header

CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels: a product photo's white
_one_at_a_time = threading.Lock()  # what Pillow warns of and forbids is the whole process's


class BadImage(ValueError):  # noqa: N818 - it is what the dead letter says
    """These bytes are not a picture we take.

    `reason` is one of `empty`, `bytes` (too many), `not-image`, `content-type` (the header says
    another type), `pixels` (too many, or too many passes over them), `too-small`, `animated`,
    `metadata` (EXIF or ICC that cannot be read), `truncated`, `corrupt`. `field` names what was
    looked at.
    """

    def __init__(self, reason: str, field: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.message = message


@dataclass(frozen=True)
class ImageLimits:
    """What is taken, and how large a picture comes out (`side_px_out`, its longer side)."""

    bytes_max: int = 8 * 1024 * 1024
    pixels_max: int = 40_000_000
    side_px_min: int = 8
    scans_max: int = 100
    scanned_pixels_max: int = 1_000_000_000  # passes times pixels: about a second of decoding
    side_px_out: int = 512


def decode(
    data: bytes, content_type: str | None = None, limits: ImageLimits | None = None
) -> Image.Image:
    """The picture upright in RGB, its longer side at most `limits.side_px_out`.

    JPEG, PNG and WebP; grey, palette, CMYK and 16-bit become RGB, transparency lies on white, the
    EXIF orientation is applied. `content_type` is what the sender called it, if anything.
    Raises `BadImage`.
    """
    limits = limits or ImageLimits()
    if not data:
        raise BadImage("empty", "value", "no bytes")
    if len(data) > limits.bytes_max:
        raise BadImage(
            "bytes", "value", f"{len(data):,} bytes, at most {limits.bytes_max:,} are taken"
        )
    header = image_header.read(data)
    if header is None:
        raise BadImage("not-image", "value", "neither JPEG nor PNG nor WebP")
    _check_content_type(header.format, content_type)
    if header.animated:
        raise BadImage("animated", "value", "more than one frame")
    if not header.whole:
        raise BadImage("truncated", "value", "fewer bytes than its header counts")
    if header.scans > limits.scans_max:
        raise BadImage("pixels", "value", f"{header.scans} passes over the picture")
    with _pillow_as_bad_image():
        # the header alone is read here; a picture's pixels wait until their number is known
        with Image.open(BytesIO(data), formats=[header.format]) as image:
            _check_size(image.size, header.scans, limits)
            orientation = image.getexif().get(0x0112, 1)
            image.draft("RGB", (limits.side_px_out, limits.side_px_out))
            image.load()
            picture = _shrink(image, limits.side_px_out)
        return _upright(_rgb(picture), orientation)


def _check_content_type(found: str, said: str | None) -> None:
    said = (said or "").split(";")[0].strip().lower()
    if said in ("", "application/octet-stream", "image/*", CONTENT_TYPES[found]):
        return
    if found == "JPEG" and said in ("image/jpg", "image/pjpeg", "image/mpo"):
        return
    raise BadImage("content-type", "content-type", f"called {said[:80]!r}, but it is a {found}")


def _check_size(size: tuple[int, int], scans: int, limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.pixels_max:
        raise BadImage(
            "pixels", "value", f"{width:,} x {height:,} pixels, at most {limits.pixels_max:,}"
        )
    if scans * width * height > limits.scanned_pixels_max:
        raise BadImage("pixels", "value", f"{scans} passes over {width:,} x {height:,} pixels")
    if min(size) < limits.side_px_min:
        raise BadImage(
            "too-small", "value", f"{width} x {height} pixels, at least {limits.side_px_min} a side"
        )


@contextmanager
def _pillow_as_bad_image() -> Iterator[None]:
    """Turns whatever Pillow says of hostile bytes, aloud or as a warning, into `BadImage`."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("error")
        # how many pixels are taken is ours to say: they are counted before any is decoded
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        except BadImage:
            raise
        except UserWarning as warning:
            raise BadImage("metadata", "value", _first_line(warning)) from warning
        except UnidentifiedImageError as error:
            raise BadImage("corrupt", "value", "its header cannot be read") from error
        except Exception as error:
            # decoders of hostile bytes raise nearly anything: OSError, SyntaxError, struct.error
            text = _first_line(error)
            raise BadImage(_reason(text), "value", text) from error
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def _reason(text: str) -> str:
    if "truncated" in text.lower():
        return "truncated"
    return "metadata" if "MAX_TEXT" in text else "corrupt"  # compressed text or colour profile


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _shrink(image: Image.Image, side_px: int) -> Image.Image:
    """Smaller before anything else, so that every later step is cheap."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        # pixels of one bit Pillow does not blend into grey: it would leave some of them out
        image = image.convert("RGBA" if "transparency" in image.info else "L")
    elif image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion to 8 bits cuts off instead of scaling
        image = image.point(lambda value: value / 257).convert("L")
    return _contain(image, side_px)


def _contain(image: Image.Image, side_px: int) -> Image.Image:
    if max(image.size) <= side_px:
        return image.copy()
    width, height = (max(1, round(side * side_px / max(image.size))) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        layers = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(page, layers).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def encode_jpeg(image: Image.Image, side_px_max: int, bytes_max: int) -> bytes:
    """The picture as a JPEG of at most that side and that many bytes, for sending.

    Raises `BadImage` where even the lowest quality does not fit.
    """
    image = _contain(image, side_px_max)
    for quality in (90, 80, 65, 50, 30):
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= bytes_max:
            return buffer.getvalue()
    raise BadImage(
        "bytes", "value", f"a picture of {image.size} does not fit into {bytes_max:,} bytes"
    )
