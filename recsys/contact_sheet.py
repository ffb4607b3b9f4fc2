"""One picture of a photo and of what was found for it, to look at."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

CELL_PX = 160
LINE_PX = 16
EDGE_PX = 12
COLUMNS = 5
INK = (30, 30, 30)
FAINT = (235, 235, 235)


class Line(NamedTuple):
    """One thing that was found: its id, and what is written below its picture."""

    item_id: str
    words: str


def contact_sheet(
    photo: Image.Image, lines: Sequence[Line], pictures: Mapping[str, Image.Image], title: str
) -> Image.Image:
    """The photo on the left, twice as large; on the right what was found, best first.

    What has no picture is a grey field with its id.
    """
    rows = max(2, -(-len(lines) // COLUMNS))
    step_x, step_y = CELL_PX + EDGE_PX, CELL_PX + 2 * LINE_PX + EDGE_PX
    left = 2 * CELL_PX + 2 * EDGE_PX
    size = (left + COLUMNS * step_x, LINE_PX + 2 * EDGE_PX + rows * step_y)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    draw.text((EDGE_PX, EDGE_PX), title, INK, font)
    top = LINE_PX + 2 * EDGE_PX
    _paste(sheet, photo, (EDGE_PX, top), 2 * CELL_PX)
    for place, line in enumerate(lines):
        x, y = left + place % COLUMNS * step_x, top + place // COLUMNS * step_y
        picture = pictures.get(line.item_id)
        if picture is None:
            draw.rectangle((x, y, x + CELL_PX, y + CELL_PX), FAINT)
        else:
            _paste(sheet, picture, (x, y), CELL_PX)
        name = _fitting(draw, f"{place + 1}. {line.item_id}", font)
        draw.text((x, y + CELL_PX), name, INK, font)
        draw.text((x, y + CELL_PX + LINE_PX), _fitting(draw, line.words, font), INK, font)
    return sheet


def _paste(sheet: Image.Image, picture: Image.Image, corner: tuple[int, int], side: int) -> None:
    width, height = (max(1, round(n * side / max(picture.size))) for n in picture.size)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(small, (corner[0] + (side - width) // 2, corner[1] + (side - height) // 2))


def _fitting(
    draw: ImageDraw.ImageDraw, words: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> str:
    if draw.textlength(words, font) <= CELL_PX:
        return words
    while words and draw.textlength(words + "…", font) > CELL_PX:
        words = words[:-1]
    return words + "…"
