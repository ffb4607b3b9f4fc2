"""Photos in, products out, over every broker: the whole image path with a worker of all roles."""

import asyncio
import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from PIL import Image

import recsys
from recsys.demo_photos import PHOTOS, contact_sheets, photo_tour
from recsys.factors import VERSION, Announcement, Refit, encode
from recsys.ids import key_of
from recsys.settings import Settings
from streams import codec, topics
from streams.broker import Broker
from streams.chunk import Record
from streams.connection import Connection
from streams.events import (
    HEADER_CONTENT_TYPE,
    HEADER_DLQ_MESSAGE,
    HEADER_DLQ_REASON,
    HEADER_K,
    HEADER_TIMESTAMP,
    HEADER_UPLOAD_ID,
    ItemEmbedding,
)
from tests.e2e.harness import Shop, until
from tests.models.hostile_images import hostile

pytest.importorskip("onnxruntime")

SAMPLE = Path(recsys.__file__).parent / "sample" / "clothing"
CATEGORIES = ("hat", "pants", "shoes", "dress")
PER_CATEGORY = 10
NOW_MS = 1_700_000_000_000


def products() -> list[dict[str, str]]:
    """Ten products of each of four categories."""
    with (SAMPLE / "products.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        row
        for category in CATEGORIES
        for row in [each for each in rows if each["category"] == category][:PER_CATEGORY]
    ]


def entry(row: dict[str, str]) -> Record:
    product = {key: row[key] for key in ("item_id", "title", "category")}
    return Record(row["item_id"].encode(), json.dumps(product).encode())


def product_picture(row: dict[str, str]) -> Record:
    data = (SAMPLE / row["image"]).read_bytes()
    return Record(row["item_id"].encode(), data, [(HEADER_CONTENT_TYPE, b"image/jpeg")])


def photo(user: str, data: bytes, upload_id: str, kind: str | None = "image/jpeg") -> Record:
    headers = [
        (HEADER_UPLOAD_ID, upload_id.encode()),
        (HEADER_TIMESTAMP, str(NOW_MS).encode()),
        (HEADER_K, b"5"),
    ]
    if kind is not None:
        headers.append((HEADER_CONTENT_TYPE, kind.encode()))
    return Record(user.encode(), data, headers)


def of_sample(name: str) -> bytes:
    return (SAMPLE / "uploads" / f"{name}.jpg").read_bytes()


async def send_photos(shop: Shop, records: list[Record]) -> None:
    """Photos may be larger than a client sends without being told so."""
    async with AIOKafkaProducer(
        bootstrap_servers=shop.bootstrap, max_request_size=topics.IMAGE_BYTES_MAX
    ) as producer:
        for key, value, headers, _ in records:
            name = shop.topic(topics.IMAGE_UPLOADS)
            await producer.send_and_wait(name, value, key=key, headers=list(headers))


async def answer(shop: Shop, upload_id: str) -> dict[str, Any]:
    """The list that answers an upload."""

    async def look() -> dict[str, Any] | None:
        found = [each for each in await shop.lists() if each.get("upload_id") == upload_id]
        assert len(found) <= 1, "an upload was answered twice"
        return found[0] if found else None

    return await until(look, f"a list for the upload {upload_id}")


@pytest.fixture(scope="class")
def shop(opened_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with a catalogue and its pictures. Every second picture came before its product."""
    prefix = f"i{random.SystemRandom().getrandbits(40):010x}"
    shop = Shop(opened_broker.bootstrap, prefix, tmp_path_factory.mktemp("images"))
    rows = products()

    async def open_it() -> None:
        await shop.create()
        bundles = shop.folder / "data" / "bundles"
        shutil.copytree(SAMPLE.parent / "bundles", bundles)
        roles = ("behaviour", "items", "images")
        worker = shop.start(roles, IMAGES__CLASSIFIER="clothing-categories")
        await worker.until_ready()
        assert worker.health()[1]["classifier_refused"] == ""
        await shop.produce(topics.PRODUCT_IMAGES, map(product_picture, rows[::2]))
        await shop.produce(topics.CATALOGUE, map(entry, rows))
        await shop.produce(topics.PRODUCT_IMAGES, map(product_picture, rows[1::2]))

        async def look() -> bool:
            return len(await shop.read(topics.ITEM_EMBEDDINGS)) == len(rows)

        await until(look, "a vector of each product")

    try:
        asyncio.run(open_it())
        yield shop
    finally:
        asyncio.run(shop.remove())


def run_recsys(shop: Shop, *words: str) -> subprocess.CompletedProcess[str]:
    """A command against this shop."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    environ |= {
        "RECSYS_BROKER": shop.bootstrap,
        "RECSYS_PREFIX": shop.prefix,
        "RECSYS_DATA_DIR": str(shop.folder / "data"),
    }
    return subprocess.run(
        [sys.executable, "-m", "recsys", *words],
        env=environ, cwd=shop.folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.usefixtures("broker")
class TestImages:
    @pytest.mark.parametrize("name", ["shoes-01", "pants-02"])
    async def test_a_photo_is_answered_by_what_looks_like_it(self, shop: Shop, name: str) -> None:
        category = name.split("-", maxsplit=1)[0]
        await send_photos(shop, [photo(f"user-{name}", of_sample(name), name)])
        ranked = await answer(shop, name)
        assert ranked["user_id"] == f"user-{name}"
        assert ranked["trigger"]["kind"] == "upload"
        assert ranked["event_time"] == NOW_MS
        items = [item["item_id"] for item in ranked["items"]]
        assert len(items) == 5
        assert sum(item.startswith(category) for item in items) >= 3, ranked["items"]
        assert "image" in ranked["items"][0]["sources"]
        assert f"looks like your photo ({category})" in {i["reason"] for i in ranked["items"]}

    async def test_the_photo_stays_in_the_profile(self, shop: Shop) -> None:
        await send_photos(shop, [photo("stays", of_sample("hat-01"), "stays-1")])
        await answer(shop, "stays-1")
        event = {
            "user_id": "stays", "item_id": "dress-01", "type": "view", "timestamp": NOW_MS + 60_000,
        }  # fmt: skip
        await shop.produce_events([event])

        async def look() -> list[dict[str, Any]] | None:
            mine = [each for each in await shop.lists() if each["user_id"] == "stays"]
            return mine if len(mine) == 2 else None

        lists = await until(look, "the list after the event")
        [after] = [each for each in lists if each["trigger"]["kind"] == "event"]
        assert any("image" in item["sources"] for item in after["items"])

    async def test_what_is_known_of_a_user_holds_their_photos(self, shop: Shop) -> None:
        await send_photos(shop, [photo("known", of_sample("hat-02"), "known-1")])
        await answer(shop, "known-1")
        done = await asyncio.to_thread(run_recsys, shop, "state", "--user", "known", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["events_applied"] == 0
        assert told["photos"]["uploads"] == 1
        assert told["photos"]["encoder"].startswith("efficientnet-lite0@")
        assert told["photos"]["association"] is None, "nothing else is known of them"

    async def test_hostile_images_are_dead_letters_and_spoil_no_other(self, shop: Shop) -> None:
        cases = hostile()
        records = [
            photo(f"bad-{n}", data, f"bad-{n}", kind)
            for n, (data, kind, _) in enumerate(cases.values())
            if len(data) < topics.IMAGE_BYTES_MAX
        ]
        good = [photo("good", of_sample("dress-01"), f"good-{n}") for n in range(3)]
        await send_photos(shop, [*records[:9], *good, *records[9:]])
        for n in range(3):
            assert (await answer(shop, f"good-{n}"))["items"]

        async def look() -> Any:
            letters = await shop.dead_letters(topics.IMAGE_UPLOADS)
            return letters if len(letters) >= len(records) else None

        letters = await until(look, "the dead letters")
        assert len(letters) == len(records)
        told = {letter.key: dict(letter.headers) for letter in letters}
        for n, (data, _, reason) in enumerate(cases.values()):
            if len(data) < topics.IMAGE_BYTES_MAX:
                headers = told[f"bad-{n}".encode()]
                assert headers[HEADER_DLQ_REASON] == b"image"
                assert headers[HEADER_DLQ_MESSAGE].startswith(f"{reason}:".encode())

    async def test_a_picture_without_a_product_id_is_a_dead_letter(self, shop: Shop) -> None:
        data = of_sample("hat-02")
        await shop.produce(topics.PRODUCT_IMAGES, [Record(b"", data)])

        async def look() -> Any:
            return await shop.dead_letters(topics.PRODUCT_IMAGES) or None

        [letter] = await until(look, "the dead letter")
        assert letter.value == data

    async def test_the_command_line_uploads_and_draws(self, shop: Shop) -> None:
        sheet = shop.folder / "sheet.png"
        path = str(SAMPLE / "uploads" / "shoes-02.jpg")
        done = await asyncio.to_thread(
            run_recsys, shop, "upload", path, "--user", "cli", "--k", "6", "--wait", "60",
            "--sheet", str(sheet), "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert len(told["items"]) == 6
        assert told["seconds"] > 0
        with Image.open(sheet) as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 1000

    async def test_the_command_line_searches(self, shop: Shop) -> None:
        file = shop.folder / "products.index"
        built = await asyncio.to_thread(run_recsys, shop, "index", "build", str(file), "--json")
        assert built.returncode == 0, built.stderr
        facts = json.loads(built.stdout)
        assert facts["vectors"] == len(products())
        assert sum(facts["offsets"].values()) >= len(products())
        again = await asyncio.to_thread(run_recsys, shop, "index", "add", str(file), "--json")
        assert json.loads(again.stdout) == facts, "the topic holds nothing since"
        near = await asyncio.to_thread(
            run_recsys, shop, "similar", "shoes-03", "--index", str(file), "--k", "3", "--json"
        )
        assert near.returncode == 0, near.stderr
        items = [row["item_id"] for row in json.loads(near.stdout)]
        assert "shoes-03" not in items
        assert sum(item.startswith("shoes") for item in items) >= 2
        none = await asyncio.to_thread(run_recsys, shop, "similar", "no-such", "--k", "3")
        assert none.returncode == 1
        assert "neither a file nor an item" in none.stderr

    async def test_trainings_read_what_the_topics_hold(self, shop: Shop) -> None:
        pytest.importorskip("sklearn")
        done = await asyncio.to_thread(
            run_recsys, shop, "train", "classifier", "--kind", "svm", "--name", "by-topic",
            "--encoder", "colour-histogram", "--views", "2", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["settings"]["classes"] == sorted(CATEGORIES)
        assert sum(told["data"]["photos"].values()) == len(products())
        assert told["data"]["origin"] == f"topics of {shop.prefix}"
        assert not list((shop.folder / "data").rglob("*.jpg")), "a picture was written to disk"
        alike = await asyncio.to_thread(run_recsys, shop, "train", "siamese", "--label-is-product")
        assert alike.returncode == 1
        assert alike.stderr == (
            "recsys: each product has one photo: nothing shows which photos are alike\n"
        )

    async def test_the_demos_photos_are_answered_and_drawn(self, shop: Shop) -> None:
        """Last, since it brings the whole sample."""
        encoder_id = Settings().images.encoder_id
        tours = await photo_tour(Connection(shop.bootstrap), shop.prefix, encoder_id)
        assert [tour.photo for tour in tours] == list(PHOTOS)
        for tour in tours:
            category = tour.photo.split("-", maxsplit=1)[0]
            alike = [item for item in tour.ranked.items if item.item_id.startswith(category)]
            assert len(alike) >= 5, tour.ranked.items
        with Image.open(BytesIO(contact_sheets(tours))) as sheet:
            assert sheet.format == "PNG"
            assert sheet.height > len(tours) * 300


async def test_a_mapping_is_learned_from_vectors_and_factors_of_the_topics(
    opened_broker: Broker, tmp_path: Path
) -> None:
    prefix = f"m{random.SystemRandom().getrandbits(40):010x}"
    shop = Shop(opened_broker.bootstrap, prefix, tmp_path)
    generator = np.random.default_rng(0)
    names = [f"item-{n}" for n in range(60)]
    images = generator.normal(size=(60, 8)).astype("<f4")
    images /= np.linalg.norm(images, axis=1)[:, None]
    taste = (images @ generator.normal(size=(8, 4))).astype(np.float32)
    keys = np.array([key_of(name) for name in names], np.uint64)
    refit = Refit("als-1", keys[:50], taste[:50])
    announced = Announcement(VERSION, "als-1", 1, 50, 10, 4, 0, {})
    embeddings = [
        ItemEmbedding(item_id=name, encoder="small@1", vector=row.tobytes())
        for name, row in zip(names, images, strict=True)
    ]
    words = ("train", "mapping", "--encoder-id", "small@1", "--json")
    try:
        await shop.create()
        vectors = [Record(each.item_id.encode(), codec.encode(each)) for each in embeddings]
        await shop.produce(topics.ITEM_EMBEDDINGS, vectors)
        early = await asyncio.to_thread(run_recsys, shop, *words)
        assert early.returncode == 1
        assert early.stderr == "recsys: no refit has written factors yet\n"
        factors = [Record(*record) for record in encode(announced, refit)]
        await shop.produce(topics.ITEM_FACTORS, factors)
        done = await asyncio.to_thread(run_recsys, shop, *words)
    finally:
        await shop.remove()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["data"]["products"] == 50, "only products with both count"
    assert told["metrics"]["explained"] > 0.9
