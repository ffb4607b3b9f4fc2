"""How good the image models are, on photos: `python -m benchmarks.images FOLDER`.

FOLDER holds `clothing` (Clothing dataset small, CC0) and `grocery-store` (Grocery Store Dataset,
MIT). Prints the tables and writes them to `benchmarks/images.md`; what was computed on the way is
kept in the work folder, so that a second run takes minutes. `--only` names the parts wanted.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.uploads import as_sent, measure
from models import encoder as encoders
from models import trained
from models.bundle import Bundle, current_version, read
from models.index import ExactIndex, HnswIndex
from models.mapping import fit_mapping
from models.photos import read_folder
from models.retrieval import Retrieval, retrieval
from models.unit_rows import unit_rows
from recsys import training
from recsys.training_data import Job, Parts, features, read_parts
from streams.broker import open_broker
from streams.connection import Connection

PARTS = ("retrieval", "classifier", "cold-start", "speed", "uploads")
LOSSES = ("contrastive", "triplet", "in-batch")
JOINED = "efficientnet-lite0+colour-histogram"
BATCHES = (1, 4, 16, 64)
CLASSICAL = ("perceptual-hash", "hog", "colour-histogram")
SOURCES = {
    "clothing": ("CC0-1.0", "Clothing dataset (small), A. Grigorev and contributors"),
    "grocery-store": ("MIT", "Grocery Store Dataset, Klasson et al. (2019)"),
}


class Tables:
    """Markdown as it comes about; what is there from an earlier run stays for parts not run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = path.with_suffix(".json")
        self.parts: dict[str, str] = json.loads(self.kept.read_text()) if self.kept.exists() else {}

    def write(self, part: str, text: str) -> None:
        print(text)
        self.parts[part] = text
        self.kept.write_text(json.dumps(self.parts, indent=1))
        head = "# Image models\n\nPrinted by `python -m benchmarks.images FOLDER`.\n\n"
        self.path.write_text(head + "\n".join(self.parts[p] for p in PARTS if p in self.parts))


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" if n == 0 else "---:" for n in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def job(options: argparse.Namespace, data: str, name: str, **more: Any) -> Job:
    licence, origin = SOURCES[data]
    work: Path = options.work

    def watch(what: str, done: int, total: int) -> None:
        if done == total or what.startswith("loss"):
            print(f"  {name}: {what} ({done}/{total})", flush=True)

    return Job(
        read_folder(options.folder / data, more.get("label_is_product", False)), name,
        work / "bundles", work / "encoders", work / "training",
        licence=licence, origin=origin, watch=watch, **more,
    )  # fmt: skip


def trained_once(
    options: argparse.Namespace, wanted: Job, train: Callable[[Job], Bundle]
) -> Bundle:
    """The bundle of that name, unless there is one already."""
    if current_version(wanted.bundles, wanted.name) is None or options.again:
        return train(wanted)
    return read(wanted.bundles, wanted.name)


def show(found: Retrieval, frozen: Retrieval) -> tuple[str, ...]:
    ratio = found.mean_average_precision / frozen.mean_average_precision
    numbers = (found.recall_at_1, found.recall_at_10, found.mean_average_precision)
    return (*(f"{number:.3f}" for number in numbers), f"{ratio:.2f}")


HEAD = ("encoder", "Recall@1", "Recall@10", "mAP@10", "over frozen")


def clothing_retrieval(options: argparse.Namespace) -> str:
    """By category among the test photos, each of a garment that no training saw."""
    base = job(options, "clothing", "x")
    parts = read_parts(base)
    labels = parts.labels("test")
    trunk = trained.load_encoder(base.encoder, base.cache, base.bundles)
    frozen_rows = unit_rows(features(base, trunk, parts, "test", 1)[:, 0])
    frozen = retrieval(frozen_rows, labels)
    rows: list[tuple[Any, ...]] = []
    for name in CLASSICAL:
        encoder = encoders.load(name, base.cache)
        found = unit_rows(features(base, encoder, parts, "test", 1)[:, 0])
        rows.append((name, *show(retrieval(found, labels), frozen)))
    alexnet = job(options, "clothing", "alexnet", epochs=options.alexnet_epochs)
    if current_version(alexnet.bundles, "alexnet") is not None or options.alexnet_epochs:
        trained_once(options, alexnet, training.train_alexnet)
        encoder = trained.load_encoder("alexnet", base.cache, base.bundles)
        images = [photo.open() for photo in parts.photos["test"]]
        rows.append(("alexnet, fc7", *show(retrieval(encoder.encode(images), labels), frozen)))
    rows.append(("efficientnet-lite0, frozen", *show(frozen, frozen)))
    for loss in LOSSES:
        wanted = job(options, "clothing", f"clothing-{loss}")
        trained_once(options, wanted, lambda w, loss=loss: training.train_siamese(w, loss))
        head = trained.load_encoder(wanted.name, base.cache, base.bundles).head
        found = head.embed(frozen_rows)
        rows.append((f"Siamese head, {loss}", *show(retrieval(found, labels), frozen)))
    if current_version(base.bundles, "clothing-fine-tune") is not None:
        encoder = trained.load_encoder("clothing-fine-tune", base.cache, base.bundles)
        images = [photo.open() for photo in parts.photos["test"]]
        found = encoder.encode(images)
        rows.append(("fine-tuned by category", *show(retrieval(found, labels), frozen)))
    text = f"### Clothing, by category: {len(labels)} test photos, each searching the others\n\n"
    return text + table(HEAD, rows)


def grocery_retrieval(options: argparse.Namespace) -> str:
    """By product: photos of 20 products that no training saw, among the photos of all 81."""
    base = job(options, "grocery-store", "x", label_is_product=True, views=2)
    parts = read_parts(base)
    trunk = trained.load_encoder(base.encoder, base.cache, base.bundles)
    groups = ("train", "validation", "test")
    phone = {g: np.array(["Iconic" not in p.path.name for p in parts.photos[g]]) for g in groups}

    def measured(vectors: dict[str, Any]) -> tuple[Retrieval, Retrieval, Retrieval]:
        all_rows = np.concatenate([vectors[g] for g in groups])
        all_labels = np.concatenate([parts.labels(g) for g in groups])
        all_phone = np.concatenate([phone[g] for g in groups])
        held_out = np.repeat([g == "test" for g in groups], [len(vectors[g]) for g in groups])
        asking = held_out & all_phone
        place = np.cumsum(all_phone) - 1
        photos = retrieval(
            all_rows[asking], all_labels[asking], all_rows[all_phone], all_labels[all_phone],
            place[asking],
        )  # fmt: skip
        among = retrieval(all_rows[asking], all_labels[asking])
        icons = retrieval(
            all_rows[asking], all_labels[asking], all_rows[~all_phone], all_labels[~all_phone]
        )
        return photos, among, icons

    def both(found: Any, frozen: Any) -> tuple[str, ...]:
        cells: tuple[str, ...] = ()
        for mine, theirs in zip(found, frozen, strict=True):
            one, ten, mean, ratio = show(mine, theirs)
            cells += (f"{one} / {ten} / {mean}", ratio)
        return cells

    def vectors_of(encoder: Any, views: int) -> dict[str, Any]:
        return {
            g: unit_rows(features(base, encoder, parts, g, views if g == "train" else 1)[:, 0])
            for g in groups
        }

    frozen_vectors = vectors_of(trunk, base.views)
    frozen = measured(frozen_vectors)
    rows: list[tuple[Any, ...]] = []
    for name in CLASSICAL:
        encoder = encoders.load(name, base.cache)
        rows.append((name, *both(measured(vectors_of(encoder, 1)), frozen)))
    if current_version(base.bundles, "alexnet") is not None:
        encoder = trained.load_encoder("alexnet", base.cache, base.bundles)
        rows.append(("alexnet, fc7 (clothing)", *both(measured(vectors_of(encoder, 1)), frozen)))
    rows.append(("efficientnet-lite0, frozen", *both(frozen, frozen)))
    for loss in LOSSES:
        wanted = replace(base, name=f"grocery-{loss}")
        trained_once(options, wanted, lambda w, loss=loss: training.train_siamese(w, loss))
        head = trained.load_encoder(wanted.name, base.cache, base.bundles).head
        found = {g: head.embed(frozen_vectors[g]) for g in groups}
        rows.append((f"Siamese head, {loss}", *both(measured(found), frozen)))
    joined = vectors_of(trained.load_encoder(JOINED, base.cache, base.bundles), base.views)
    rows.append(("network and colours, frozen", *both(measured(joined), frozen)))
    wanted = replace(base, name="grocery-joined", encoder=JOINED)
    trained_once(options, wanted, training.train_siamese)
    head = trained.load_encoder(wanted.name, base.cache, base.bundles).head
    found = {g: head.embed(joined[g]) for g in groups}
    rows.append(("Siamese head, in-batch, on network and colours", *both(measured(found), frozen)))
    count = {g: len({p.product for p in parts.photos[g]}) for g in groups}
    text = (
        f"### Grocery store, by product: {int(phone['test'].sum())} phone photos of "
        f"{count['test']} products held out of all training ({count['train']} train, "
        f"{count['validation']} choose the epoch)\n\n"
        "Recall@1 / Recall@10 / mAP@10, and its ratio to the frozen encoder's.\n\n"
    )
    head_row = (
        "encoder", "among phone photos of all 81", "over frozen", "among those of the 20",
        "over frozen", "among the 81 catalogue pictures", "over frozen",
    )  # fmt: skip
    return text + table(head_row, rows)


def classifiers(options: argparse.Namespace) -> str:
    """The clothing test split: 372 photos, 10 classes."""
    rows = []
    for kind in ("linear", "hidden", "svm", "fine-tune"):
        views = 6 if kind == "fine-tune" else 8
        wanted = job(options, "clothing", f"clothing-{kind}", views=views)
        found = trained_once(
            options, wanted, lambda w, kind=kind: training.train_classifier(w, kind)
        )
        rows.append((kind, *_accuracies(found)))
    wanted = job(options, "clothing", "alexnet", epochs=options.alexnet_epochs)
    if current_version(wanted.bundles, "alexnet") is not None or options.alexnet_epochs:
        found = trained_once(options, wanted, training.train_alexnet)
        rows.append(("alexnet, from scratch", *_accuracies(found)))
    head = ("model", "test accuracy", "95 % interval", "calibration error", "validation")
    text = "## Classifier: clothing, 10 categories, 372 test photos\n\n"
    return text + table(head, rows)


def _accuracies(found: Bundle) -> Iterator[str]:
    test = found.about.metrics["test"]
    yield f"{test['accuracy']:.3f}"
    yield f"{test['low']:.3f} to {test['high']:.3f}"
    error = test.get("calibration_error")
    yield "" if error is None else f"{error:.3f}"
    validation = found.about.metrics.get("validation")
    yield "" if validation is None else f"{validation['accuracy']:.3f}"


def cold_start(options: argparse.Namespace) -> str:
    """New products by their pictures alone; the interactions are simulated, and said to be."""
    base = job(options, "clothing", "x")
    parts: Parts = read_parts(base)
    trunk = trained.load_encoder(base.encoder, base.cache, base.bundles)
    old_images = unit_rows(features(base, trunk, parts, "train", base.views)[:, 0])
    new_images = unit_rows(features(base, trunk, parts, "test", 1)[:, 0])
    generator = np.random.default_rng(0)
    old_labels, new_labels = parts.labels("train"), parts.labels("test")
    taste = generator.dirichlet(np.full(len(parts.classes), 0.2), size=2000)
    chance = taste[:, old_labels] / np.bincount(old_labels)[old_labels]
    chance /= chance.sum(axis=1, keepdims=True)
    touched = np.zeros((len(taste), len(old_labels)), np.float32)
    for row, each in zip(touched, chance, strict=True):
        row[generator.choice(len(each), size=30, replace=False, p=each)] = 1
    left, strength, right = np.linalg.svd(touched - touched.mean(axis=0), full_matrices=False)
    users, factors = left[:, :32] * strength[:32], right[:32].T
    weights = touched.sum(axis=0) + 1e-3
    mapping = fit_mapping(old_images, factors * 100, weights)
    wrong = fit_mapping(old_images[generator.permutation(len(old_images))], factors * 100, weights)
    truth = taste[:, new_labels]
    rows = []
    for name, scores in (
        ("mapped pictures", users @ mapping(new_images).T),
        ("mapped from shuffled pictures", users @ wrong(new_images).T),
        ("at random", generator.random(truth.shape)),
        ("the simulated tastes themselves", truth),
    ):
        best = np.argsort(-scores, axis=1)[:, :10]
        rows.append((name, f"{np.take_along_axis(truth, best, axis=1).mean():.3f}"))
    text = (
        "## Cold start: real pictures, SIMULATED interactions\n\nSimulated: 2,000 users with a "
        "Dirichlet taste over the 10 categories each touch 30 of the training garments; 32 factors "
        f"by SVD. Ranked are the {len(new_labels)} test garments, which nobody has touched, by "
        "their pictures mapped into the factors. Mean taste of the user for the first 10:\n\n"
    )
    return text + table(("by", "mean simulated taste, first 10"), rows)


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


def uploads(options: argparse.Namespace) -> str:
    """From upload to list, on a real broker with one worker of all roles."""
    base = job(options, "clothing", "x")
    paths = [photo.path for photo in base.photos if photo.split == "test"][:50]
    events_per_s, per_s = options.events_per_s, options.uploads_per_s
    with tempfile.TemporaryDirectory(prefix="recsys-bench-") as folder, open_broker() as broker:
        bench = Bench(Connection(broker.bootstrap), Path(folder))
        busy = os.getloadavg()[0]
        found = measure(
            bench, as_sent(paths), events_per_s=events_per_s, uploads_per_s=per_s,
            seconds=options.seconds,
        )  # fmt: skip
    text = (
        f"## From upload to list: {per_s:g} photos a second beside {events_per_s:,} events a "
        "second\n\nJPEG of 1,024 px, one worker with all roles, broker and both producers on the "
        f"same {os.cpu_count()} cores; the load of the machine just before was {busy:.1f}. Wall "
        "time, from when a photo was due to when its list could be read.\n\n"
    )
    return text + table(tuple(found), [tuple(found.values())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("images.md"))
    parser.add_argument("--work", type=Path, default=Path(".recsys"))
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--again", action="store_true", help="train what is trained already")
    parser.add_argument("--alexnet-epochs", type=int, help="train AlexNet too; it takes an hour")
    parser.add_argument("--index-size", type=int, default=100_000)
    parser.add_argument("--index-dims", type=int, nargs="+", default=[256, 1280])
    parser.add_argument("--events-per-s", type=int, default=1_000)
    parser.add_argument("--uploads-per-s", type=float, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    tables = Tables(options.out)
    for part in options.only or PARTS:
        if part == "retrieval":
            text = "## Retrieval\n\n" + clothing_retrieval(options)
            tables.write(part, text + "\n" + grocery_retrieval(options))
        else:
            build = {
                "classifier": classifiers, "cold-start": cold_start, "speed": speed,
                "uploads": uploads,
            }[part]  # fmt: skip
            tables.write(part, build(options))


if __name__ == "__main__":
    main()
