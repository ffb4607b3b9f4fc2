"""Checkpoints: arrays and lists of texts in one file that is whole or not there at all.

    magic | BLAKE2b of the rest | length of the manifest | manifest (JSON) | the arrays' bytes

The manifest names kind and version, and every array's type and shape.
A file is written beside its name, synced, and renamed over it; nothing in it is ever unpickled.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"recsys-checkpoint-1\n"
_CHECKSUM_BYTES = 16
_LENGTH = struct.Struct("<Q")

Content = Mapping[str, NDArray[Any] | list[str]]


class CheckpointError(Exception):
    """A file that is no checkpoint, of another kind or version, or damaged."""


def save(path: Path, content: Content, *, kind: str, version: int) -> None:
    """Write a checkpoint: afterwards the file is this one, or the one that was there before.

    Its owner alone may read it: users' histories lie in it.

    Raises:
        OSError: no room, no right, no folder.
    """
    entries: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for name, value in content.items():
        array, shape = _as_array(value)
        entries.append({"name": name, "type": array.dtype.str, "shape": shape,
                        "bytes": array.nbytes, "texts": isinstance(value, list)})  # fmt: skip
        parts.append(array.reshape(-1).view(np.uint8).data)
    manifest = json.dumps({"kind": kind, "version": version, "arrays": entries}).encode()
    parts.insert(0, _LENGTH.pack(len(manifest)) + manifest)
    checksum = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for part in parts:
        checksum.update(part)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(MAGIC + checksum.digest())
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def load(path: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Read a checkpoint: writable arrays, and lists of texts, by name.

    Raises:
        CheckpointError: what is there cannot be trusted or is not what was asked for.
        FileNotFoundError: nothing is there.
    """
    packed = path.read_bytes()
    start = len(MAGIC) + _CHECKSUM_BYTES
    if not packed.startswith(MAGIC) or len(packed) < start + _LENGTH.size:
        raise CheckpointError(f"{path} is no checkpoint")
    rest = memoryview(packed)[start:]
    if hashlib.blake2b(rest, digest_size=_CHECKSUM_BYTES).digest() != packed[len(MAGIC) : start]:
        raise CheckpointError(f"{path} is damaged: its checksum differs")
    body = _LENGTH.size + _LENGTH.unpack(rest[: _LENGTH.size])[0]
    manifest = json.loads(bytes(rest[_LENGTH.size : body]))
    found = (manifest["kind"], manifest["version"])
    if found != (kind, version):
        raise CheckpointError(f"{path} holds {found[0]} {found[1]}, wanted {kind} {version}")
    view = rest[body:]
    content: dict[str, Any] = {}
    at = 0
    for entry in manifest["arrays"]:
        part = view[at : at + entry["bytes"]]
        at += entry["bytes"]
        array = np.frombuffer(part, np.dtype(entry["type"])).reshape(entry["shape"]).copy()
        content[entry["name"]] = _texts(array) if entry["texts"] else array
    return content


def _as_array(value: NDArray[Any] | list[str]) -> tuple[NDArray[Any], list[int]]:
    if not isinstance(value, list):
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            raise TypeError("a checkpoint holds numbers and texts, no objects")
        return array, list(value.shape)
    # Texts: how many, their lengths in bytes, then all of them in UTF-8.
    encoded = [text.encode() for text in value]
    lengths = np.array([len(encoded), *(len(text) for text in encoded)], "<u4")
    packed = np.frombuffer(lengths.tobytes() + b"".join(encoded), np.uint8)
    return packed, [len(packed)]


def _texts(packed: NDArray[np.uint8]) -> list[str]:
    raw = packed.tobytes()
    count = int(np.frombuffer(raw[:4], "<u4")[0])
    lengths = np.frombuffer(raw[4 : 4 + 4 * count], "<u4")
    stops = 4 + 4 * count + np.cumsum(lengths, dtype=np.int64)
    starts = stops - lengths
    return [raw[a:b].decode() for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
