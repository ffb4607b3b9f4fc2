"""Pictures to vectors: how many a second, by the size of a batch (how good: `images`)."""

from benchmarks import process
from benchmarks.bench import Bench, Table

ENCODERS = ("efficientnet-lite0", "hog")


def run(bench: Bench) -> list[Table]:
    """Encode pictures of a photo's size with the pretrained network and a classical descriptor."""
    sizes = (1, 8, 32) if not bench.quick else (1, 2)
    folder = bench.folder / "encoders"
    folder.mkdir(exist_ok=True)
    rows = []
    for encoder in ENCODERS:
        found = process.run("images", {
            "encoder": encoder, "sizes": sizes, "folder": str(folder),
            "images": bench.size(256, 2),
        })  # fmt: skip
        rows += [
            {"encoder": encoder, "batch": int(size)}
            | {name: round(value, 1) for name, value in found[str(size)].items()}
            for size in sizes
        ]
    return [
        Table("Pictures to vectors, one process", list(rows[0]), rows,
              ["Noise of 224 x 224 pixels, decoded already; CPU counts all threads."]),
    ]  # fmt: skip
