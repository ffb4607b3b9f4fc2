"""How often photos' categories are told, and what pictures alone tell of products."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.image_jobs import job, table, trained_alexnet, trained_once
from models import trained
from models.bundle import Bundle
from models.mapping import fit_mapping
from models.unit_rows import unit_rows
from models.views import compute_views
from recsys import training
from recsys.training_data import Job, Parts, features, read_parts


def classifiers(options: argparse.Namespace) -> str:
    """The clothing test split: 372 photos, 10 classes."""
    rows = []
    for kind in ("linear", "hidden", "svm", "best", "fine-tune"):
        views = 6 if kind == "fine-tune" else 8
        wanted = job(options, "clothing", f"clothing-{kind}", views=views)
        found = trained_once(
            options, wanted, lambda w, kind=kind: training.train_classifier(w, kind)
        )
        rows.append((kind, *_cells(found)))
    found_alexnet = trained_alexnet(options, training.train_alexnet)
    if found_alexnet is not None:
        epochs = len(_history(found_alexnet)["loss"])
        rows.append((f"alexnet, from scratch, {epochs} epochs", *_cells(found_alexnet)))
    head = (
        "model", "test accuracy", "95 % interval", "calibration error", "validation",
        "minutes", "CPU minutes",
    )  # fmt: skip
    ms, count = _view_ms(job(options, "clothing", "x"))
    text = (
        "## Classifier: clothing, 10 categories, 372 test photos\n\nTrained by `recsys train "
        "classifier clothing --kind K`, fine-tuned with `--views 6`, and `recsys train alexnet "
        "clothing`. Minutes are on what the frozen trunk makes of the photos, which is computed "
        f"once: {ms:.1f} ms of CPU a view (a sample of 128), so "
        f"{ms * count / 60e3:.1f} minutes on one core for the {count:,} views of the default. "
        "They went by beside other work; CPU minutes are of all cores together.\n\n"
    )
    return text + table(head, rows)


def _cells(found: Bundle) -> Iterator[str]:
    metrics = found.about.metrics
    test = metrics["test"]
    yield f"{test['accuracy']:.3f}"
    yield f"{test['low']:.3f} to {test['high']:.3f}"
    error = test.get("calibration_error")
    yield "" if error is None else f"{error:.3f}"
    validation = metrics.get("validation")
    yield "" if validation is None else f"{validation['accuracy']:.3f}"
    for name in ("seconds", "cpu_seconds"):
        # older bundles tell of their last run alone, were they interrupted
        yield f"{metrics[name] / 60:.1f}" if "cpu_seconds" in metrics else ""


def _history(found: Bundle) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((found.folder / "training.json").read_text())["history"]
    return told


def _view_ms(base: Job) -> tuple[float, int]:
    """CPU time of one view of a photo, and how many views the default training takes."""
    parts = read_parts(base)
    trunk = trained.load_encoder(base.encoder, base.cache, base.bundles)
    sample = parts.photos["train"][:: len(parts.photos["train"]) // 16][:16]
    begun = time.process_time()
    compute_views(trunk.features, sample, base.views)
    ms = (time.process_time() - begun) * 1e3 / (len(sample) * base.views)
    return ms, sum(
        len(group) * (base.views if part == "train" else 1) for part, group in parts.photos.items()
    )


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
