"""One decorator for every compiled loop: numba, cached on disk, without the GIL."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

LINE = 64  # bytes that a processor reads of memory at once


def kernel(function: Function) -> Function:
    """Compile a loop over columns at its first call; later processes load it from disk.

    IEEE order of additions is kept (no fastmath), so that equal input gives equal bytes.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_typing: Any, _address: Any) -> Any:
    """LLVM's hint that the memory at an address is soon read; no address is wrong."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        wanted = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        hint = cgutils.get_or_insert_function(builder.module, wanted, "llvm.prefetch.p0")
        # To be read, kept in all caches, data.
        how = [ir.Constant(number, value) for value in (0, 3, 1)]
        builder.call(hint, [builder.inttoptr(arguments[0], pointer), *how])
        return context.get_dummy_value()

    return types.void(types.uintp), emit


@kernel
def fetch(rows: Any, slot: int, first: int, last: int) -> None:
    """Have the bytes [first, last) of a row of an array at hand soon.

    Rows that are read in an order of chance are waited for one by one, unless asked for before.
    """
    start = rows.ctypes.data + slot * rows.strides[0]
    for at in range(start + first, start + last, LINE):
        _prefetch(np.uintp(at))
