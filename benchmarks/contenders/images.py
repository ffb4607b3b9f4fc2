"""Pictures to vectors: images a second by batch size. Options: `encoder`, `sizes`, `folder`."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import meter
from models import encoder


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Encode noise of a photo's size in batches."""
    rng = np.random.default_rng(1)
    encode = encoder.load(given["encoder"], Path(given["folder"])).encode
    found = {}
    for size in given["sizes"]:
        pictures = [
            Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8))
            for _ in range(size)
        ]
        encode(pictures)
        rounds = max(1, given["images"] // size)
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            encode(pictures)
        done = rounds * size
        found[str(size)] = {
            "images/s": done / (time.perf_counter() - started),
            "CPU ms/image": 1e3 * (time.process_time() - cpu) / done,
        }
    return found


if __name__ == "__main__":
    meter.report(work(meter.options()))
