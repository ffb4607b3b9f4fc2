"""How long encoding and searching take."""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.image_jobs import CLASSICAL, JOINED, job, table
from models import encoder as encoders
from models.index import ExactIndex, HnswIndex

BATCHES = (1, 4, 16, 64)


def speed(options: argparse.Namespace) -> str:
    """Embedding on one core by the size of a batch, and searches over many vectors."""
    base = job(options, "clothing", "x")
    photos = [photo for photo in base.photos if photo.split == "test"][:64]
    images = [photo.open() for photo in photos]
    rows: list[tuple[Any, ...]] = []
    for name in ("efficientnet-lite0", "efficientnet-lite2", JOINED, *CLASSICAL):
        encoder = encoders.load(name, base.cache)
        encoder.encode(images[:2])
        cells = []
        for size in BATCHES:
            cpu = time.process_time()
            for start in range(0, len(images), size):
                encoder.encode(images[start : start + size])
            cells.append(f"{(time.process_time() - cpu) / len(images) * 1e3:.1f}")
        rows.append((name, *cells))
    cpu = time.process_time()
    for photo in photos:
        photo.open()
    decoding = (time.process_time() - cpu) / len(photos) * 1e3
    head = ("encoder", *(f"{size} at once" for size in BATCHES))
    text = (
        "## Speed: CPU time on one core\n\nMilliseconds a photo of 224 px, decoded already "
        f"(decoding one takes {decoding:.1f}), by the size of a batch:\n\n"
    )
    text += table(head, rows)
    text += (
        f"\nMilliseconds of a search for the 10 nearest of {options.index_size:,} products, by "
        "cosine, 200 searches one after the other on clustered vectors (1,000 centres):\n\n"
    )
    head = ("index", "numbers", "mean", "p99", "recall@10")
    return text + table(head, [row for dim in options.index_dims for row in searches(options, dim)])


def searches(options: argparse.Namespace, dim: int) -> Iterator[tuple[Any, ...]]:
    """How long both indexes take, and how much of what is nearest they find."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(1000, dim)).astype(np.float32)

    def near(ids: Any) -> Any:
        return centres[ids % 1000] + 0.7 * generator.normal(size=(len(ids), dim)).astype(np.float32)

    exact, graph = ExactIndex(dim), HnswIndex(dim)
    for start in range(0, options.index_size, 10_000):
        ids = np.arange(start, min(start + 10_000, options.index_size))
        vectors = near(ids)
        exact.put(ids, vectors)
        graph.put(ids, vectors)
    queries = near(np.arange(200))
    truth = [set(exact.search(query, 10)[0].tolist()) for query in queries]
    for index in (exact, graph):
        times, hits = [], 0
        for query, wanted in zip(queries, truth, strict=True):
            cpu = time.process_time()
            found, _ = index.search(query, 10)
            times.append((time.process_time() - cpu) * 1e3)
            hits += len(wanted & set(found.tolist()))
        mean, last = np.mean(times), np.quantile(times, 0.99)
        share = hits / (10 * len(queries))
        yield (index.kind, dim, f"{mean:.2f}", f"{last:.2f}", f"{share:.3f}")
