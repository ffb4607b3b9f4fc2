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

import msgspec
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
    """Writes the file; a reader at the same time sees the old one or the new one.

    Raises `IndexFileError` or `OSError` where it cannot be written.
    """
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
    part.touch()
    mode = part.stat().st_mode & 0o777  # safetensors would leave it to its owner alone
    try:
        save_file(arrays, part, metadata=about)
        part.chmod(mode)
        os.replace(part, path)
    except SafetensorError as error:
        raise IndexFileError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def load(path: Path, encoder: str | None = None) -> SavedIndex:
    """Reads the file back.

    Raises `IndexFileError` where it is none, is damaged, or holds vectors of another encoder than
    that one.
    """
    try:
        with safe_open(path, "numpy") as file:
            about: Mapping[str, str] = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise IndexFileError(f"{path} is no index: {error}") from error
    if about.get("format") != FORMAT:
        raise IndexFileError(f"{path} is no index of the format {FORMAT}")
    try:
        names = msgspec.json.decode(about["names"], type=list[str])
        offsets = msgspec.json.decode(about["offsets"], type=dict[str, int])
        index = _restored(about, arrays, len(names))
        saved = SavedIndex(index, about["encoder"], names, offsets)
    except (LookupError, ValueError, RuntimeError) as error:  # voyager raises RuntimeError
        raise IndexFileError(f"{path} is damaged: {error}") from error
    if encoder is not None and saved.encoder != encoder:
        raise IndexFileError(f"{path} holds vectors of {saved.encoder}, not of {encoder}")
    return saved


def _restored(
    about: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]], names: int
) -> Index:
    dim = int(about["dim"])
    metric: Metric = "cosine" if about["metric"] == "cosine" else "euclidean"
    inner: Index
    ids = arrays["ids"]
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < names:
        raise ValueError("a vector has no name")
    if about["inner"] == "hnsw":
        inner = HnswIndex.restore(dim, metric, ids, arrays["graph"].tobytes())
    else:
        inner = ExactIndex(dim, metric)
        inner.put(ids, arrays["rows"])
    if about["kind"] != "switching":
        return inner
    switching = SwitchingIndex(dim, metric)
    switching.inner = inner
    return switching
