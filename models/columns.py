"""State in columns: rows of fixed width in one growing array, with undo and a byte format.

A `Table` knows slots and no names. Kernels write its rows in place; inside `begin` ... `commit`
the row's bytes before the first write are kept, so `rollback` puts back exactly what was there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import kernel

Slots = NDArray[np.int32]
Keys = NDArray[np.uint64]
NONE = -1  # an empty reference, and the answer of a search that found nothing
_CAPACITY_MIN = 64


@dataclass(frozen=True)
class Column:
    """One field of a row.

    Args:
        name: unique in its table.
        dtype: little-endian numpy type, e.g. "<u4".
        width: values a row.
        refers: holds item slots in memory and 64-bit item keys in the log; NONE is key 0.
        derived: rebuilt when a row is read back, so never in its bytes.
        empty: value of a new row.
    """

    name: str
    dtype: str
    width: int = 1
    refers: bool = False
    derived: bool = False
    empty: int = 0


class Table:
    """Rows of columns, addressed by slot.

    >>> table = Table([Column("count", "<u4"), Column("next", "<i4", refers=True, empty=NONE)])
    >>> slot = table.allocate()
    >>> table.begin()
    >>> table.touch(np.array([slot]))
    >>> table["count"][slot] = 7
    >>> table.rollback()
    >>> int(table["count"][slot])
    0
    """

    def __init__(self, columns: Sequence[Column], capacity: int = _CAPACITY_MIN) -> None:
        self.columns = tuple(columns)
        # Wide types first: every field is aligned, and rows have no holes but at their end.
        ordered = sorted(columns, key=lambda column: -np.dtype(column.dtype).itemsize)
        self.dtype = np.dtype([_field(column, column.dtype) for column in ordered], align=True)
        self._log_columns = [column for column in columns if not column.derived]
        self._log_dtype = np.dtype(
            [_field(column, "<u8" if column.refers else column.dtype)
             for column in self._log_columns]
        )  # fmt: skip
        self._blank = np.zeros(1, self.dtype)
        for column in columns:
            self._blank[column.name] = column.empty
        capacity = max(capacity, _CAPACITY_MIN)
        self.rows: NDArray[Any] = np.repeat(self._blank, capacity)
        # [0] slots ever used, [1] height of the stack of free ones, [2] before-images held
        self.counters = np.zeros(3, np.int64)
        self.free_stack: Slots = np.empty(_CAPACITY_MIN, np.int32)
        self.epoch = np.ones(1, np.uint32)
        self.open = False
        self._freed: list[int] = []
        self._counters_before = self.counters.copy()
        self.marks = np.zeros(capacity, np.uint32)  # epoch in which the slot was last touched
        self.undo_slots: Slots = np.empty(_CAPACITY_MIN, np.int32)
        self.undo_rows: NDArray[Any] = np.empty(_CAPACITY_MIN, self.dtype)
        self._view()

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column, shape (capacity,) or (capacity, width): a view, valid until the table grows."""
        return self._views[name]

    def __len__(self) -> int:
        """Rows in use."""
        return int(self.counters[0] - self.counters[1]) - len(self._freed)

    @property
    def size(self) -> int:
        """Slots ever used: every valid slot is below it."""
        return int(self.counters[0])

    @property
    def row_bytes(self) -> int:
        """Memory of one row, its share of the bookkeeping included."""
        return self.dtype.itemsize + self.marks.itemsize

    @property
    def memory_bytes(self) -> int:
        """Memory the table holds now."""
        return int(
            self.rows.nbytes + self.marks.nbytes + self.undo_rows.nbytes
            + self.undo_slots.nbytes + self.free_stack.nbytes
        )  # fmt: skip

    # -- slots -----------------------------------------------------------------------------------

    def reserve(self, extra: int) -> None:
        """Make room for `extra` more slots, so that a kernel may allocate and touch them."""
        needed = self.size + extra
        if needed > len(self.rows):
            capacity = max(needed, len(self.rows) * 5 // 4)
            grown = np.repeat(self._blank, capacity)
            grown[: self.size] = self.rows[: self.size]
            self.rows = grown
            marks = np.zeros(capacity, np.uint32)
            marks[: len(self.marks)] = self.marks
            self.marks = marks
            self._view()

    def reserve_undo(self, extra: int) -> None:
        """Make room for `extra` more before-images; a kernel that touches rows needs it."""
        if not self.open:
            self.counters[2] = 0  # what is touched outside of a transaction has no way back
        held = int(self.counters[2])
        if held + extra > len(self.undo_slots):
            capacity = max(held + extra, 2 * len(self.undo_slots))
            slots, rows = self.undo_slots, self.undo_rows
            self.undo_slots = np.empty(capacity, np.int32)
            self.undo_rows = np.empty(capacity, self.dtype)
            self.undo_slots[:held] = slots[:held]
            self.undo_rows[:held] = rows[:held]

    def allocate(self) -> int:
        """A blank slot, a freed one first."""
        if self.counters[1]:
            self.counters[1] -= 1
            slot = int(self.free_stack[self.counters[1]])
        else:
            self.reserve(1)
            slot = self.size
            self.counters[0] += 1
        return slot

    def extend(self, size: int) -> None:
        """Use every slot below `size`, for tables whose slots are given out elsewhere."""
        if size > self.size:
            self.reserve(size - self.size)
            self.counters[0] = size

    def free(self, slots: Slots) -> None:
        """Blank rows and give their slots back; inside a transaction once it is committed."""
        self.touch(slots)
        self.clear(slots)
        if self.open:
            self._freed.extend(slots.tolist())
        else:
            self._release(slots)

    def clear(self, slots: Slots) -> None:
        """Blank rows that were touched, keeping their slots."""
        self.rows[slots] = self._blank

    def _release(self, slots: Slots) -> None:
        height = int(self.counters[1])
        needed = height + len(slots)
        if needed > len(self.free_stack):
            self.free_stack = np.resize(self.free_stack, max(needed, 2 * len(self.free_stack)))
        self.free_stack[height:needed] = slots
        self.counters[1] = needed

    # -- transactions ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Open a transaction: from here on before-images are kept."""
        if self.open:
            raise RuntimeError("a transaction is already open on this table")
        self.open = True
        self.epoch[0] += 1
        self.counters[2] = 0
        self._counters_before = self.counters.copy()

    def touch(self, slots: NDArray[Any]) -> None:
        """Keep the rows' bytes before they are written; once a slot and transaction."""
        if self.open and len(slots):
            self.reserve_undo(len(slots))
            _touch_all(
                slots, self.rows, self.marks, self.epoch, self.undo_slots, self.undo_rows,
                self.counters,
            )  # fmt: skip

    def dirty(self) -> Slots:
        """Slots touched since `begin`, in the order of their first touch."""
        return self.undo_slots[: self.counters[2]].copy() if self.open else np.empty(0, np.int32)

    def commit(self) -> None:
        """Keep what was written."""
        self._close()
        if self._freed:
            self._release(np.array(self._freed, np.int32))
            self._freed.clear()

    def rollback(self) -> None:
        """Put back every touched row, byte for byte, and forget slots allocated since `begin`."""
        held = int(self.counters[2])
        self.rows[self.undo_slots[:held]] = self.undo_rows[:held]
        self._close()
        self.rows[self._counters_before[0] : self.counters[0]] = self._blank
        self.counters[:2] = self._counters_before[:2]
        self._freed.clear()

    def _close(self) -> None:
        if not self.open:
            raise RuntimeError("no transaction is open on this table")
        self.open = False
        self.counters[2] = 0

    # -- bytes -----------------------------------------------------------------------------------

    def encode(self, slots: Slots, keys: Keys | None = None) -> list[bytes]:
        """The rows' bytes: little-endian, packed, item slots as `keys[slot]`, NONE as 0."""
        if not self._log_columns:
            return [b""] * len(slots)
        out = np.empty(len(slots), self._log_dtype)
        picked = self.rows[slots]
        for column in self._log_columns:
            values = picked[column.name]
            if column.refers:
                assert keys is not None, "references need the items' keys"
                values = np.where(values == NONE, np.uint64(0), keys[values])
            out[column.name] = values
        packed, width = out.tobytes(), self._log_dtype.itemsize
        return [packed[start : start + width] for start in range(0, len(packed), width)]

    def decode(
        self, slots: Slots, values: Sequence[bytes], resolve: Callable[[Keys], Slots] | None = None
    ) -> None:
        """Write rows from their bytes; `resolve` gives item slots for keys. Derived columns stay.

        Raises:
            ValueError: bytes of a wrong length.
        """
        width = self._log_dtype.itemsize
        if any(len(value) != width for value in values):
            raise ValueError(f"a row of this table has {width} bytes")
        if not self._log_columns:
            return
        read = np.frombuffer(b"".join(values), self._log_dtype)
        for column in self._log_columns:
            content = read[column.name]
            if column.refers:
                assert resolve is not None, "references need the items' slots"
                found = resolve(np.ascontiguousarray(content).reshape(-1)).reshape(content.shape)
                content = np.where(content == 0, NONE, found)
            self._views[column.name][slots] = content

    @property
    def encoded_bytes(self) -> int:
        """Bytes of one row in the log."""
        return self._log_dtype.itemsize

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Arrays that `restore` takes back: the rows as bytes, and the free slots."""
        return {
            "rows": self.rows[: self.size]
            .view(np.uint8)
            .reshape(self.size, self.dtype.itemsize)
            .copy(),
            "free": self.free_stack[: self.counters[1]].copy(),
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Replace everything by a snapshot.

        Raises:
            ValueError: the snapshot's rows are of another shape.
        """
        packed = np.ascontiguousarray(arrays["rows"])
        if packed.ndim != 2 or (len(packed) and packed.shape[1] != self.dtype.itemsize):
            raise ValueError("the snapshot's rows have another width than this table's")
        self.__init__(self.columns, len(packed))  # type: ignore[misc]
        self.rows[: len(packed)] = packed.view(self.dtype).reshape(-1)
        self.counters[0] = len(packed)
        self._release(np.asarray(arrays["free"], np.int32))

    def _view(self) -> None:
        self._views = {column.name: self.rows[column.name] for column in self.columns}


def _field(column: Column, dtype: str) -> tuple[Any, ...]:
    return (column.name, dtype) if column.width == 1 else (column.name, dtype, (column.width,))


@kernel
def touch_row(
    slot: int, rows: Any, marks: Any, epoch: Any, undo_slots: Any, undo_rows: Any, counters: Any
) -> None:
    """Keep one row's before-image, for kernels; the caller has reserved room for it."""
    if marks[slot] != epoch[0]:
        marks[slot] = epoch[0]
        held = counters[2]
        undo_slots[held] = slot
        undo_rows[held] = rows[slot]
        counters[2] = held + 1


@kernel
def _touch_all(
    slots: Any, rows: Any, marks: Any, epoch: Any, undo_slots: Any, undo_rows: Any, counters: Any
) -> None:
    for at in range(len(slots)):
        touch_row(slots[at], rows, marks, epoch, undo_slots, undo_rows, counters)
