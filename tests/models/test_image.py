import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.image import BadImage, ImageLimits, decode, encode_jpeg
from tests.models.hostile_images import encoded, hostile, picture, png, scans, with_exif

HOSTILE = hostile()


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_what_is_hostile(name):
    data, content_type, reason = HOSTILE[name]
    with pytest.raises(BadImage) as caught:
        decode(data, content_type)
    assert caught.value.reason == reason
    assert caught.value.message
    assert caught.value.field


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_of_any_mode_becomes_rgb(mode, progressive):
    smooth = Image.linear_gradient("L").resize((160, 120)).convert(mode)
    image = decode(encoded(smooth, "JPEG", progressive=progressive, quality=95), "image/jpeg")
    assert (image.mode, image.size) == ("RGB", (160, 120))
    expected = np.asarray(smooth.convert("RGB"), float)
    assert np.abs(np.asarray(image, float) - expected).mean() < 3


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
    + [("WEBP", mode) for mode in ("RGB", "RGBA", "L")],
)
def test_lossless_kinds_keep_their_pixels(kind, mode):
    source = picture(mode=mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(encoded(source, kind, **options))
    assert np.array_equal(np.asarray(image), np.asarray(source.convert("RGB")))


def test_sixteen_bits_are_scaled_not_cut():
    grey = Image.fromarray(np.full((20, 20), 0x8080, np.uint16))
    assert np.asarray(decode(encoded(grey, "PNG"))).max() == 128


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 128))
    assert np.asarray(decode(encoded(clear, "PNG"))).min() == 255
    assert np.asarray(decode(encoded(half, "PNG")))[0, 0, 0] == 127
    coloured = encoded(Image.new("RGB", (20, 20), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert np.asarray(decode(coloured)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = Image.new("RGB", (60, 40), "white")
    upright.paste((255, 0, 0), (0, 0, 20, 20))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose numbers that lay it down
    turned = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(turned, "JPEG", exif=exif, quality=95))
    assert image.size == (60, 40)
    red = np.asarray(image)[10, 10]
    assert red[0] > 200
    assert red[1] < 60


@pytest.mark.parametrize("value", [0, 9, 70_000])
def test_an_orientation_that_is_none_changes_nothing(value):
    assert decode(with_exif((0x0112, 4, 1, value))).size == (160, 120)


def test_exif_that_points_to_itself_ends():
    assert decode(with_exif((0x8769, 4, 1, 8))).size == (160, 120)


def test_a_colour_profile_is_not_parsed():
    data = encoded(picture(), "JPEG", icc_profile=b"no profile at all" * 1000)
    assert decode(data).size == (160, 120)


def test_two_pictures_in_one_jpeg_give_the_first():
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    assert decode(data, "image/jpeg").size == (160, 120)


def test_large_pictures_come_out_small_with_their_shape():
    image = decode(encoded(Image.new("RGB", (3000, 1500), "teal"), "JPEG"))
    assert image.size == (512, 256)
    assert decode(png(8, 60_000)).size == (1, 512)


def test_as_many_passes_as_cameras_make_are_taken():
    assert decode(scans(10)).size == (160, 120)


def test_passes_times_pixels_are_bounded_for_each_pass_is_paid_for():
    fits, bound = scans(10), 160 * 120 * 20  # its own ten passes and ten more
    assert decode(fits, limits=ImageLimits(scanned_pixels_max=bound)).size == (160, 120)
    with pytest.raises(BadImage, match="passes over 160 x 120") as refused:
        decode(fits, limits=ImageLimits(scanned_pixels_max=bound - 1))
    assert refused.value.reason == "pixels"


@pytest.mark.parametrize("said", [None, "", "application/octet-stream", "IMAGE/JPEG; q=1"])
def test_content_types_that_fit(said):
    assert decode(encoded(picture(), "JPEG"), said).size == (160, 120)


def test_limits_are_settings():
    with pytest.raises(BadImage, match="at most 100"):
        decode(encoded(picture(), "PNG"), None, ImageLimits(pixels_max=100))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_damaged_bytes_decode_or_are_refused(kind, data):
    good = bytearray(encoded(picture(40, 30), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(good))
    except BadImage:
        return
    assert image.mode == "RGB"
    assert max(image.size) <= 512


def test_memory_stays_bounded_at_the_pixel_limit():
    """The worst that is let in: 16-bit RGBA just under the limit, from 300 kB of bytes."""
    code = (
        "import resource, zlib\n"
        "from models.image import decode\n"
        "from tests.models.hostile_images import png\n"
        "side = 6300\n"
        "data = png(side, side, bytes(side * (1 + side * 8)), depth=16, colour=6)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert decode(data).size == (512, 512)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(data))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    grown_kib, size = map(int, answer.stdout.split())
    assert size < 500_000
    assert grown_kib < 600 * 1024


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=20, deadline=None)
def test_pictures_for_sending_fit(width, height):
    data = encode_jpeg(picture(width, height), side_px_max=100, bytes_max=20_000)
    assert len(data) <= 20_000
    assert data[:3] == struct.pack("3B", 0xFF, 0xD8, 0xFF)


def test_a_picture_that_cannot_fit_says_so():
    with pytest.raises(ValueError, match="does not fit"):
        encode_jpeg(picture(), side_px_max=1000, bytes_max=100)


@pytest.mark.parametrize("size", [(12_000, 9_000), (14_000, 13_000)])
def test_as_many_pixels_are_taken_as_the_limit_says(size):
    data = encoded(Image.new("L", size, 128), "JPEG", quality=30)
    before = Image.MAX_IMAGE_PIXELS
    image = decode(data, limits=ImageLimits(pixels_max=200_000_000))
    assert max(image.size) == 512
    with pytest.raises(BadImage, match="at most 40,000,000"):
        decode(data)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("clear", [None, 0])
def test_lines_of_one_bit_become_grey(clear):
    pixels = np.full((2048, 2048), 255, np.uint8)
    pixels[:, 1::8] = 0
    options = {} if clear is None else {"transparency": clear}
    found = np.asarray(decode(encoded(Image.fromarray(pixels).convert("1"), "PNG", **options)))
    assert found.mean() == pytest.approx(pixels.mean() if clear is None else 255, abs=2)
