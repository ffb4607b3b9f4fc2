"""The images role: uploads and product pictures become vectors, which travel as events.

Behaviour workers and replays read the vectors alone, so they need no encoder and are deterministic.
A lane here has no state: its round is decode, encode, write, commit.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aiokafka.structs import ConsumerRecord

from models.image import BadImage
from recsys import metrics
from recsys.image_reader import ImageReader, Picture
from streams import codec, dead_letters, headers, topics
from streams.application import Outcome
from streams.chunk import Chunk, Position, Record
from streams.codec import DecodeError
from streams.events import (
    HEADER_CONTENT_TYPE,
    HEADER_K,
    HEADER_TIMESTAMP,
    HEADER_UPLOAD_ID,
    LIST_SIZE_MAX,
    ImageEmbedding,
    ItemEmbedding,
)
from streams.no_state import NoState, Stateless
from streams.topics import DAY_MS

LIST_K = 10
BATCHES_A_ROUND = 4  # what a photo takes is not known before the first round


class ImageLanes(Stateless):
    """The application of the images role, for one of its two inputs (`uploads` or pictures)."""

    def __init__(
        self, reader: ImageReader, prefix: str, *, uploads: bool, future_ms_max: int = DAY_MS
    ) -> None:
        self._reader = reader
        self._future_ms_max = future_ms_max
        self._uploads = uploads
        self._source = topics.IMAGE_UPLOADS if uploads else topics.PRODUCT_IMAGES
        self._input = self._source.name(prefix)
        target = topics.IMAGE_EMBEDDINGS if uploads else topics.ITEM_EMBEDDINGS
        self._output = target.name(prefix)
        self._thread = ThreadPoolExecutor(1, "images")

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads."""
        return (self._input,)

    @property
    def round_records_max(self) -> int:
        """How many pictures a round reads, so that the first ones need not wait for hundreds."""
        return BATCHES_A_ROUND * self._reader.batch_size

    async def apply(self, lane: int, state: NoState, chunks: Sequence[Chunk]) -> Outcome:
        """One round: everything that waits, in batches, off the event loop."""
        outcome = Outcome()
        records = [record for chunk in chunks for record in chunk.records]
        kept: list[tuple[ConsumerRecord, str]] = []
        for record in records:
            try:
                kept.append((record, self._owner(record)))
            except DecodeError as error:
                self._refuse(lane, record, error, outcome)
        files = [(r.value or b"", _content_type(r)) for r, _ in kept if not self._removes(r)]
        loop = asyncio.get_running_loop()
        read = await loop.run_in_executor(self._thread, self._reader.read, files)
        pictures = iter(read)
        for record, owner in kept:
            if self._removes(record):
                # in its place among the others: a vector behind it would bring the picture back
                outcome.add(Position(self._output, lane), Record(record.key, None))
                continue
            picture = next(pictures)
            try:
                if isinstance(picture, BadImage):
                    told = f"{picture.reason}: {picture.message}"
                    raise DecodeError("image", picture.field, told)
                message = self._message(record, owner, picture)
            except DecodeError as error:
                self._refuse(lane, record, error, outcome)
            else:
                packed = Record(record.key, codec.encode(message))
                outcome.add(Position(self._output, lane), packed)
        if records:
            metrics.events(self._input, len(files), int(records[-1].timestamp))
        return outcome

    def _removes(self, record: ConsumerRecord) -> bool:
        """Whether it takes a product's picture away."""
        return record.value is None and not self._uploads

    def _owner(self, record: ConsumerRecord) -> str:
        name = "user_id" if self._uploads else "item_id"
        return codec.key_id(record.key, name)

    def _message(
        self, record: ConsumerRecord, owner: str, picture: Picture
    ) -> ImageEmbedding | ItemEmbedding:
        vector = picture.vector.astype("<f4").tobytes()
        encoder = self._reader.encoder.id
        if not self._uploads:
            return ItemEmbedding(
                item_id=owner, encoder=encoder, vector=vector, classes=picture.classes
            )
        here = f"{record.topic}/{record.partition}/{record.offset}"
        return ImageEmbedding(
            user_id=owner,
            upload_id=headers.text(record, HEADER_UPLOAD_ID) or here,
            timestamp=headers.time(record, HEADER_TIMESTAMP, self._future_ms_max),
            encoder=encoder,
            vector=vector,
            classes=picture.classes,
            k=headers.number(record, HEADER_K, 1, LIST_SIZE_MAX) or LIST_K,
        )

    def _refuse(
        self, lane: int, record: ConsumerRecord, error: DecodeError, outcome: Outcome
    ) -> None:
        target = Position(topics.dead_letter_name(record.topic), lane)
        outcome.add(target, dead_letters.dead_letter(record, error))
        metrics.dead_letter(record.topic, error.reason)


def _content_type(record: ConsumerRecord) -> str | None:
    """What the sender called it; a header that cannot be read is refused with the message."""
    try:
        return headers.text(record, HEADER_CONTENT_TYPE)
    except DecodeError:
        return "unreadable"
