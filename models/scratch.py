"""Room that kernels work in, kept from call to call: each thread has its own."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Scratch(threading.local):
    """An array that begins as zeros; a kernel that counts on them leaves zeros behind.

    >>> scratch = Scratch(np.int32)
    >>> scratch.room(3).tolist()
    [0, 0, 0]
    """

    def __init__(self, dtype: Any) -> None:
        self._all: NDArray[Any] = np.zeros(0, dtype)

    def room(self, size: int) -> NDArray[Any]:
        """So many places."""
        if len(self._all) < size:
            self._all = np.zeros(2 * size, self._all.dtype)
        return self._all[:size]
