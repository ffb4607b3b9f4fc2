"""An index in one file, with the encoder of its vectors and the log positions it reflects.

The file is safetensors: ids, vectors and, for a graph, voyager's own bytes. It is written whole
or not at all.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.index import ExactIndex, HnswIndex, Index, Metric, SwitchingIndex

FORMAT = "recsys-index-1"


class IndexFileError(ValueError):
    """A file that is no index, or not the one that was asked for."""


@dataclass(frozen=True)
class SavedIndex:
    """`names[i]` is what the id i stands for; `offsets` are the next ones to read, by partition."""

    index: Index
    encoder: str
    names: list[str]
    offsets: dict[str, int]


def save(path: Path, saved: SavedIndex) -> None:
    """Writes the file; a reader at the same time sees the old one or the new one."""
    index = saved.index
    with index.lock:
        inner = index.inner if isinstance(index, SwitchingIndex) else index
        arrays: dict[str, npt.NDArray[Any]] = {}
        if isinstance(inner, HnswIndex):
            arrays["ids"], graph = inner.dump()
            arrays["graph"] = np.frombuffer(graph, np.uint8)
        else:
            arrays["ids"], arrays["rows"] = inner.items()
    about = {
        "format": FORMAT,
        "kind": index.kind,
        "inner": inner.kind,
        "metric": index.metric,
        "dim": str(index.dim),
        "encoder": saved.encoder,
        "names": json.dumps(saved.names),
        "offsets": json.dumps(saved.offsets),
    }
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    save_file(arrays, part, metadata=about)
    os.replace(part, path)


def load(path: Path, encoder: str | None = None) -> SavedIndex:
    """Reads the file back.

    Raises `IndexFileError` where it is none, or holds vectors of another encoder than that one.
    """
    try:
        with safe_open(path, "numpy") as file:
            about: Mapping[str, str] = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise IndexFileError(f"{path} is no index: {error}") from error
    if about.get("format") != FORMAT:
        raise IndexFileError(f"{path} is no index of the format {FORMAT}")
    if encoder is not None and about["encoder"] != encoder:
        raise IndexFileError(f"{path} holds vectors of {about['encoder']}, not of {encoder}")
    index = _restored(about, arrays)
    return SavedIndex(
        index, about["encoder"], json.loads(about["names"]), json.loads(about["offsets"])
    )


def _restored(about: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]]) -> Index:
    dim = int(about["dim"])
    metric: Metric = "cosine" if about["metric"] == "cosine" else "euclidean"
    inner: Index
    if about["inner"] == "hnsw":
        inner = HnswIndex.restore(dim, metric, arrays["ids"], arrays["graph"].tobytes())
    else:
        inner = ExactIndex(dim, metric)
        inner.put(arrays["ids"], arrays["rows"])
    if about["kind"] != "switching":
        return inner
    switching = SwitchingIndex(dim, metric)
    switching.inner = inner
    return switching
