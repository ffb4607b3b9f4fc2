"""One decorator for every compiled loop: numba, cached on disk, without the GIL."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a loop over columns at its first call; later processes load it from disk.

    IEEE order of additions is kept (no fastmath), so that equal input gives equal bytes.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
