"""Product pictures as vectors by item slot, and what is nearest to a photo."""

import numpy as np
from numpy.typing import NDArray

from models.base import Scores, empty_answer
from models.columns import Slots
from models.index import SwitchingIndex
from recsys.item_state import ItemState
from recsys.twins import Twins
from streams.events import ClassProbability, ItemEmbedding

NEIGHBOURS = 10  # that a new picture is compared with; more twins come by those of its twins


class ProductVectors:
    """The vectors of one encoder; those of another are passed over, so that two never meet.

    Pictures whose cosine reaches `same_product_cosine` are `twins`; over 1 there are none.
    """

    def __init__(self, items: ItemState, encoder_id: str, same_product_cosine: float = 2.0) -> None:
        self.encoder_id = encoder_id
        self.twins = Twins()
        self._same_product_cosine = same_product_cosine
        self.classes: dict[int, list[ClassProbability]] = {}
        self.passed_over = 0
        self._items = items
        self._index: SwitchingIndex | None = None

    def __len__(self) -> int:
        return 0 if self._index is None else len(self._index)

    def put(self, embedding: ItemEmbedding) -> None:
        """Take a product's vector, or replace it."""
        if embedding.encoder != self.encoder_id:
            self.passed_over += 1
            return
        vector = np.frombuffer(embedding.vector, "<f4")
        if self._index is None:
            self._index = SwitchingIndex(len(vector))
        if len(vector) != self._index.dim:
            self.passed_over += 1
            return
        slot = self._items.slot(embedding.item_id)
        self._index.put([slot], vector[None])
        self.classes[slot] = embedding.classes
        self.twins.remove(slot)
        if self._same_product_cosine <= 1:
            slots, cosines = self.nearest(vector, NEIGHBOURS)
            self.twins.unite(slot, slots[cosines >= self._same_product_cosine])

    def remove(self, item_id: str) -> None:
        """Forget a product's vector."""
        slot = self._items.find(item_id)
        if self._index is not None and slot >= 0:
            self._index.remove([slot])
            self.classes.pop(slot, None)
            self.twins.remove(slot)

    def nearest(
        self, vector: NDArray[np.float32], k: int, allow: NDArray[np.bool_] | None = None
    ) -> tuple[Slots, Scores]:
        """Slots of the k products that look most like a vector (dim,), with their cosines."""
        if self._index is None or self._index.dim != len(vector):
            return empty_answer()
        ids, distances = self._index.search(vector, k, allow)
        return ids.astype(np.int32), (1.0 - distances).astype(np.float32)

    def items(self) -> tuple[Slots, NDArray[np.float32]]:
        """Slots and their vectors (n, dim)."""
        if self._index is None:
            return np.empty(0, np.int32), np.empty((0, 0), np.float32)
        ids, vectors = self._index.items()
        return ids.astype(np.int32), vectors
