"""How good the image models are, on photos: `python -m benchmarks.images FOLDER`.

FOLDER holds `clothing` (Clothing dataset small, CC0) and `grocery-store` (Grocery Store Dataset,
MIT). Prints the tables and writes them to `benchmarks/images.md`; what was computed on the way is
kept in the work folder, so that a second run takes minutes. `--only` names the parts wanted; of the
others, the page keeps what an earlier run has written.
"""

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.image_classifiers import classifiers, cold_start
from benchmarks.image_jobs import Page, job, table
from benchmarks.image_retrieval import retrievals
from benchmarks.image_speed import speed
from benchmarks.uploads import as_sent, measure
from streams.broker import open_broker
from streams.connection import Connection


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


PARTS = {
    "retrieval": retrievals,
    "classifier": classifiers,
    "cold-start": cold_start,
    "speed": speed,
    "uploads": uploads,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("images.md"))
    parser.add_argument("--work", type=Path, default=Path(".recsys"))
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--again", action="store_true", help="train what is trained already")
    parser.add_argument("--alexnet-epochs", type=int, help="train AlexNet too; minutes an epoch")
    parser.add_argument("--index-size", type=int, default=100_000)
    parser.add_argument("--index-dims", type=int, nargs="+", default=[256, 1280])
    parser.add_argument("--events-per-s", type=int, default=1_000)
    parser.add_argument("--uploads-per-s", type=float, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    page = Page(options.out, "Image models", tuple(PARTS))
    for part in options.only or PARTS:
        page.write(part, PARTS[part](options))


if __name__ == "__main__":
    main()
