"""Tensors out of a PyTorch file of the old kind (before 1.6), without PyTorch and without trust.

Such a file is five pickles in a row (magic number, protocol, sizes, the object, the names of the
storages) and then every storage's length and raw bytes. A pickle can run any code, so this
unpickler admits the four names that a dictionary of tensors needs, and nothing else.
Source: `torch/serialization.py`, `_legacy_load`.
"""

import hashlib
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class Storage(NamedTuple):
    """A run of numbers that tensors are views of; its bytes come after the pickles."""

    name: str
    dtype: np.dtype[Any]
    length: int


class TensorView(NamedTuple):
    """A tensor as pickled: where it lies in its storage, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Unpickler(pickle.Unpickler):
    """Admits tensors, their storages and the ordered dictionary around them."""

    def find_class(self, module: str, name: str) -> Any:
        """The four admitted names; `pickle.UnpicklingError` for any other."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor_view
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a dictionary of tensors")

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor names; views of views are not admitted."""
        kind, dtype, name, _location, length, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return Storage(str(name), dtype, int(length))


def _tensor_view(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> TensorView:
    view = TensorView(storage, offset, tuple(shape), tuple(strides))
    last = offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
    inside = offset >= 0 and last < storage.length and min(view.strides, default=0) >= 0
    if math.prod(view.shape) <= 0 or not inside:
        raise pickle.UnpicklingError("a tensor reaches outside its storage")
    return view


def read_tensors(path: Path, sha256: str) -> dict[str, npt.NDArray[Any]]:
    """The file's dictionary of tensors, each as a contiguous array.

    Strides are honoured: a tensor that was transposed when saved is not taken for its storage.
    Raises `ValueError` where the file is not the one of that digest or not of that format.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(f"{path.name}: SHA-256 is {found}, not {sha256}")
        file.seek(0)
        return _read_tensors(file)


def _read_tensors(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    load: Callable[[], Any] = lambda: Unpickler(file).load()  # noqa: E731
    try:
        magic, protocol, sizes, views, names = load(), load(), load(), load(), load()
    except (pickle.UnpicklingError, EOFError, TypeError, IndexError) as error:
        raise ValueError(f"not a file of tensors: {error}") from error
    if magic != MAGIC or protocol != PROTOCOL or not sizes["little_endian"]:
        raise ValueError("not a PyTorch file of the old kind")
    storages = {view.storage.name: view.storage for view in views.values()}
    numbers: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        storage = storages[name]
        length = int.from_bytes(file.read(8), "little")
        data = file.read(length * storage.dtype.itemsize)
        if length != storage.length or len(data) != length * storage.dtype.itemsize:
            raise ValueError(f"storage {name} is cut short")
        numbers[name] = np.frombuffer(data, storage.dtype)
    return {key: _array(view, numbers[view.storage.name]) for key, view in views.items()}


def _array(view: TensorView, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    steps = tuple(step * numbers.itemsize for step in view.strides)
    strided = np.lib.stride_tricks.as_strided(numbers[view.offset :], view.shape, steps)
    return np.ascontiguousarray(strided).reshape(view.shape)
