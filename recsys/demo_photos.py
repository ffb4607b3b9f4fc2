"""The demo's pictures: a small catalogue of clothes, a few users' photos, one contact sheet.

    tours = await photo_tour(connection, prefix, encoder_id)
    Path("photos.png").write_bytes(contact_sheets(tours))

Needs a worker with the roles behaviour, items and images. Data: `recsys/sample/clothing` (CC0).
"""

import asyncio
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from models.image import decode
from recsys.contact_sheet import Line, contact_sheet
from recsys.photo_index import follow_topic
from recsys.uploads import UploadError, send_pictures, upload
from streams import codec, topics
from streams.connection import Connection
from streams.events import Product, RankedList
from streams.producer import BatchProducer

SAMPLE = Path(__file__).parent / "sample" / "clothing"
PHOTOS = ("shoes-01", "dress-01", "pants-02", "hat-01")
POLL_S = 0.5


@dataclass(frozen=True)
class Tour:
    """One photo, who sent it, the list that answered, and after how many seconds."""

    photo: str
    user_id: str
    ranked: RankedList
    seconds: float


async def photo_tour(
    connection: Connection,
    prefix: str,
    encoder_id: str,
    photos: Sequence[str] = PHOTOS,
    wait_s: float = 60.0,
) -> list[Tour]:
    """Brings the catalogue and its pictures, uploads photos, and waits for what comes back.

    Raises `UploadError` where vectors or a list do not come in time.
    """
    rows, pictures = sample_catalogue()
    async with BatchProducer(connection, topics.CATALOGUE.name(prefix)) as producer:
        for row in rows:
            product = Product(item_id=row["item_id"], title=row["title"], category=row["category"])
            producer.add(product.item_id.encode(), codec.encode(product))
    await send_pictures(connection, prefix, pictures.items())
    await _until_read(connection, prefix, encoder_id, len(pictures), wait_s)
    tours = []
    for photo in photos:
        user_id = f"photo-of-{photo}"
        data = (SAMPLE / "uploads" / f"{photo}.jpg").read_bytes()
        answer = await upload(connection, prefix, user_id, data, 10, wait_s)
        tours.append(Tour(photo, user_id, answer.ranked, answer.seconds))
    return tours


async def _until_read(
    connection: Connection, prefix: str, encoder_id: str, count: int, wait_s: float
) -> None:
    deadline = time.monotonic() + wait_s
    index = None
    while index is None or len(index.saved.index) < count:
        if time.monotonic() > deadline:
            read = 0 if index is None else len(index.saved.index)
            raise UploadError(f"{read} of {count} pictures were read within {wait_s:g} s")
        index = await follow_topic(connection, prefix, encoder_id, index)
        await asyncio.sleep(POLL_S)


def sample_catalogue() -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """The sample's products, a row each, and their pictures' files by item id."""
    with (SAMPLE / "products.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, {row["item_id"]: (SAMPLE / row["image"]).read_bytes() for row in rows}


def contact_sheets(tours: Sequence[Tour]) -> bytes:
    """A PNG of each photo with the products that answered it, one below the other."""
    _, pictures = sample_catalogue()
    sheets = []
    for tour in tours:
        lines = [Line(item.item_id, item.reason) for item in tour.ranked.items]
        shown = {n.item_id: decode(pictures[n.item_id]) for n in lines if n.item_id in pictures}
        photo = decode((SAMPLE / "uploads" / f"{tour.photo}.jpg").read_bytes())
        title = f"a photo of {tour.photo.split('-')[0]}: a list after {tour.seconds:.2f} s"
        sheets.append(contact_sheet(photo, lines, shown, title))
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    buffer = BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
