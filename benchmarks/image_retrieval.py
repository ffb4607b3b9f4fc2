"""How well encoders find what is alike: by category among clothes, by product among groceries."""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.image_jobs import CLASSICAL, JOINED, job, table, trained_alexnet, trained_once
from models import encoder as encoders
from models import trained
from models.bundle import current_version
from models.retrieval import Retrieval, retrieval
from models.unit_rows import unit_rows
from recsys import training
from recsys.training_data import features, read_parts

LOSSES = ("contrastive", "triplet", "in-batch")


def retrievals(options: argparse.Namespace) -> str:
    """Both."""
    parts = ("## Retrieval", clothing(options), grocery(options))
    return "\n\n".join(part.strip() for part in parts)


def show(found: Retrieval, frozen: Retrieval) -> tuple[str, ...]:
    ratio = found.mean_average_precision / frozen.mean_average_precision
    numbers = (found.recall_at_1, found.recall_at_10, found.mean_average_precision)
    return (*(f"{number:.3f}" for number in numbers), f"{ratio:.2f}")


HEAD = ("encoder", "Recall@1", "Recall@10", "mAP@10", "over frozen")


def clothing(options: argparse.Namespace) -> str:
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
    if trained_alexnet(options, training.train_alexnet) is not None:
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


def grocery(options: argparse.Namespace) -> str:
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
