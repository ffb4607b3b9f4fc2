"""Nearest vectors: an exact index, a graph beyond a size, and one that goes from this to that.

    index = SwitchingIndex(dim=128, metric="cosine")
    index.put([3, 7], vectors)                 # add or replace
    index.remove([3])
    ids, distances = index.search(vector, k=10, allow=mask)
    save(index, path, offsets={"recsys.item-embeddings.v1/0": 812})

Ids are small integers: slots of a table. All three may be changed by one thread while others
search. HNSW: Malkov & Yashunin (2018), by voyager.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from threading import RLock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.unit_rows import unit_rows

Metric = Literal["cosine", "euclidean"]
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Index(ABC):
    """Vectors by id. Distances are 1 - cosine, or Euclidean; the nearest comes first."""

    kind: str

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        self.dim = dim
        self.metric: Metric = metric
        self.lock = RLock()

    @abstractmethod
    def put(self, ids: Sequence[int] | Ids, vectors: Floats) -> None:
        """Adds vectors (n, dim), or replaces those whose ids are there. The last of equal ids wins.

        Raises `ValueError` for another shape, and for what is not finite or has a negative id.
        """

    @abstractmethod
    def remove(self, ids: Sequence[int] | Ids) -> None:
        """Forgets these ids; those that are not there are passed over."""

    @abstractmethod
    def search(self, vector: Floats, k: int, allow: Mask | None = None) -> tuple[Ids, Floats]:
        """At most k nearest ids to a vector (dim,) with their distances.

        `allow[id]` tells which ids may be found; ids past its end may not.
        """

    @abstractmethod
    def items(self) -> tuple[Ids, Floats]:
        """All ids, ascending, and their vectors (n, dim), of length 1 if by cosine."""

    @abstractmethod
    def __len__(self) -> int:
        """How many vectors there are."""

    def _checked(self, ids: Sequence[int] | Ids, vectors: Floats) -> tuple[Ids, Floats]:
        keys = np.asarray(ids, np.int64).reshape(-1)
        rows = np.asarray(vectors, np.float32)
        if rows.shape != (len(keys), self.dim):
            raise ValueError(f"vectors of shape {rows.shape}, not {(len(keys), self.dim)}")
        if not np.isfinite(rows).all() or (len(keys) and keys.min() < 0):
            raise ValueError("a vector is not finite or an id is negative")
        _, last = np.unique(keys[::-1], return_index=True)
        order = np.sort(len(keys) - 1 - last)
        rows = unit_rows(rows[order]) if self.metric == "cosine" else rows[order]
        return keys[order], rows

    def _query(self, vector: Floats) -> Floats:
        query = np.asarray(vector, np.float32).reshape(-1)
        if query.shape != (self.dim,) or not np.isfinite(query).all():
            raise ValueError(f"a query must be {self.dim} finite numbers")
        return unit_rows(query[None])[0] if self.metric == "cosine" else query


class ExactIndex(Index):
    """Compares with every vector: a matrix product. Right up to some ten thousand vectors."""

    kind = "exact"

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        super().__init__(dim, metric)
        self.count = 0
        self.rows: Floats = np.empty((16, dim), np.float32)
        self.ids: Ids = np.empty(16, np.int64)
        self.places: dict[int, int] = {}

    def put(self, ids: Sequence[int] | Ids, vectors: Floats) -> None:
        """See `Index.put`."""
        keys, rows = self._checked(ids, vectors)
        with self.lock:
            self._grow(self.count + len(keys))
            for key, row in zip(keys.tolist(), rows, strict=True):
                place = self.places.setdefault(key, self.count)
                self.count = max(self.count, place + 1)
                self.ids[place] = key
                self.rows[place] = row

    def remove(self, ids: Sequence[int] | Ids) -> None:
        """See `Index.remove`. The last row takes the place of one that goes."""
        with self.lock:
            for key in np.asarray(ids, np.int64).tolist():
                place = self.places.pop(key, None)
                if place is None:
                    continue
                self.count -= 1
                if place != self.count:
                    moved = int(self.ids[self.count])
                    self.ids[place], self.rows[place] = moved, self.rows[self.count]
                    self.places[moved] = place

    def search(self, vector: Floats, k: int, allow: Mask | None = None) -> tuple[Ids, Floats]:
        """See `Index.search`."""
        query = self._query(vector)
        with self.lock:
            ids, rows = self.ids[: self.count], self.rows[: self.count]
            if allow is not None:
                ids_inside = np.minimum(ids, len(allow) - 1)
                chosen = (allow[ids_inside] if len(allow) else False) & (ids < len(allow))
                ids, rows = ids[chosen], rows[chosen]
            return nearest(query, ids, rows, k, self.metric)

    def items(self) -> tuple[Ids, Floats]:
        """See `Index.items`."""
        with self.lock:
            order = np.argsort(self.ids[: self.count])
            return self.ids[order], self.rows[order]

    def __len__(self) -> int:
        return self.count

    def _grow(self, needed: int) -> None:
        if needed > len(self.ids):
            capacity = max(needed, 2 * len(self.ids))
            self.ids = np.resize(self.ids, capacity)
            rows = np.empty((capacity, self.dim), np.float32)
            rows[: self.count] = self.rows[: self.count]
            self.rows = rows


def nearest(query: Floats, ids: Ids, rows: Floats, k: int, metric: Metric) -> tuple[Ids, Floats]:
    """The k rows nearest to the query, in order; of equally near ones the smaller id first."""
    distances = 1 - rows @ query if metric == "cosine" else np.linalg.norm(rows - query, axis=1)
    if k < len(ids):
        # every row as near as the k-th stays in until ids have broken the ties
        bound = np.partition(distances, k - 1)[k - 1] if k > 0 else -np.inf
        close = np.flatnonzero(distances <= bound)
        ids, distances = ids[close], distances[close]
    order = np.lexsort((ids, distances))[:k]
    return ids[order].copy(), np.maximum(distances[order], 0).astype(np.float32)


def _voyager() -> Any:
    """The library, when a graph is first needed: small catalogues do without it."""
    return import_module("voyager")


class HnswIndex(Index):
    """A navigable graph: a search looks at some hundred vectors, and finds nearly all nearest.

    A replaced or removed vector is marked dead in the graph; when the dead outnumber the living,
    the graph is built anew. Where few ids are allowed, those are compared exactly.
    """

    kind = "hnsw"

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        links: int = 16,
        ef_construction: int = 200,
        ef_search: int = 100,
        exact_below: int = 2_000,
    ) -> None:
        super().__init__(dim, metric)
        self.links = links
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.exact_below = exact_below
        self.count = 0
        self.label_of: Ids = np.full(16, -1, np.int64)  # by id; -1 is not there
        self.id_of: Ids = np.full(16, -1, np.int64)  # by label; -1 is dead
        self.next_label = 0
        self.graph = self._empty_graph()

    @classmethod
    def restore(cls, dim: int, metric: Metric, ids: Ids, graph: bytes) -> "HnswIndex":
        """The index whose `dump` these are."""
        index = cls(dim, metric)
        if len(ids):  # voyager does not read back an empty graph
            index.graph = _voyager().Index.load(BytesIO(graph))
            index._name(ids)
        return index

    def dump(self) -> tuple[Ids, bytes]:
        """Ids in the order of their labels, and the graph's bytes; without the dead."""
        with self.lock:
            if self.next_label > self.count:
                self._rebuild()
            return self.id_of[: self.count].copy(), self.graph.as_bytes()

    def put(self, ids: Sequence[int] | Ids, vectors: Floats) -> None:
        """See `Index.put`."""
        keys, rows = self._checked(ids, vectors)
        if not len(keys):
            return
        with self.lock:
            self.remove(keys)
            labels = range(self.next_label, self.next_label + len(keys))
            # one thread: the graph then follows from the order of arrival alone
            self.graph.add_items(rows, list(labels), num_threads=1)
            self._name(keys)

    def remove(self, ids: Sequence[int] | Ids) -> None:
        """See `Index.remove`."""
        with self.lock:
            for key in np.asarray(ids, np.int64).tolist():
                label = int(self.label_of[key]) if 0 <= key < len(self.label_of) else -1
                if label >= 0:
                    self.graph.mark_deleted(label)
                    self.id_of[label] = self.label_of[key] = -1
                    self.count -= 1
            if self.next_label > 2 * self.count + 1_000:
                self._rebuild()

    def search(self, vector: Floats, k: int, allow: Mask | None = None) -> tuple[Ids, Floats]:
        """See `Index.search`."""
        query = self._query(vector)
        with self.lock:
            if allow is None:
                return self._search_graph(query, min(k, self.count))
            inside = min(len(allow), len(self.label_of))
            allowed = np.flatnonzero(allow[:inside] & (self.label_of[:inside] >= 0))
            k = min(k, len(allowed))
            # so many neighbours that, were the allowed spread evenly, four times k are among them
            wanted = 4 * k * self.count // max(1, len(allowed))
            if self.exact_below < len(allowed) and wanted <= self.count // 4:
                ids, distances = self._search_graph(query, wanted)
                chosen = np.flatnonzero((ids < inside) & allow[np.minimum(ids, inside - 1)])
                if len(chosen) >= k:
                    return ids[chosen[:k]], distances[chosen[:k]]
            return nearest(query, allowed, self._rows(allowed), k, self.metric)

    def items(self) -> tuple[Ids, Floats]:
        """See `Index.items`."""
        with self.lock:
            ids = np.flatnonzero(self.label_of >= 0)
            return ids, self._rows(ids)

    def __len__(self) -> int:
        return self.count

    def _empty_graph(self) -> Any:
        space = _voyager().Space.Cosine if self.metric == "cosine" else _voyager().Space.Euclidean
        return _voyager().Index(space, self.dim, self.links, self.ef_construction)

    def _search_graph(self, query: Floats, k: int) -> tuple[Ids, Floats]:
        if k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        try:
            labels, distances = self.graph.query(query, k, query_ef=max(self.ef_search, 2 * k))
        except _voyager().RecallError:
            # the walk met too many dead ends to find k: compare with all instead
            return nearest(query, *self.items(), k, self.metric)
        if self.metric == "euclidean":
            distances = np.sqrt(np.maximum(distances, 0))  # voyager gives squares
        return self.id_of[labels.astype(np.int64)], np.maximum(distances, 0).astype(np.float32)

    def _rows(self, ids: Ids) -> Floats:
        if not len(ids):
            return np.empty((0, self.dim), np.float32)
        return np.asarray(self.graph.get_vectors(self.label_of[ids].tolist()), np.float32)

    def _name(self, ids: Ids) -> None:
        """Gives the next labels to these ids."""
        if not len(ids):
            return
        self.label_of = _room(self.label_of, int(ids.max()) + 1)
        self.id_of = _room(self.id_of, self.next_label + len(ids))
        labels = np.arange(self.next_label, self.next_label + len(ids))
        self.label_of[ids], self.id_of[labels] = labels, ids
        self.next_label += len(ids)
        self.count += len(ids)

    def _rebuild(self) -> None:
        ids, rows = self.items()
        self.label_of[:], self.id_of[:] = -1, -1
        self.count = self.next_label = 0
        self.graph = self._empty_graph()
        self.put(ids, rows)


def _room(array: Ids, length: int) -> Ids:
    """The array, at least that long; what is new holds -1."""
    if length <= len(array):
        return array
    return np.concatenate([array, np.full(max(length, 2 * len(array)) - len(array), -1)])


class SwitchingIndex(Index):
    """Exact while small; a graph from `exact_max` vectors on (and then for good)."""

    kind = "switching"

    def __init__(self, dim: int, metric: Metric = "cosine", exact_max: int = 10_000) -> None:
        super().__init__(dim, metric)
        self.exact_max = exact_max
        self.inner: Index = ExactIndex(dim, metric)

    def put(self, ids: Sequence[int] | Ids, vectors: Floats) -> None:
        """See `Index.put`."""
        with self.lock:
            inner = self.inner
            inner.put(ids, vectors)
            if inner.kind == "exact" and len(inner) > self.exact_max:
                graph = HnswIndex(self.dim, self.metric)
                graph.put(*inner.items())
                self.inner = graph

    def remove(self, ids: Sequence[int] | Ids) -> None:
        """See `Index.remove`."""
        with self.lock:
            self.inner.remove(ids)

    def search(self, vector: Floats, k: int, allow: Mask | None = None) -> tuple[Ids, Floats]:
        """See `Index.search`. While the graph is first built, searches go on in the exact one."""
        return self.inner.search(vector, k, allow)

    def items(self) -> tuple[Ids, Floats]:
        """See `Index.items`."""
        return self.inner.items()

    def __len__(self) -> int:
        return len(self.inner)
