"""Roles whose lanes keep no state: what they have done is in their committed offsets."""

from collections.abc import Iterable
from typing import Any


class NoState:
    """What a lane needs of a state, and nothing in it."""

    def begin(self) -> None:
        """Nothing to start."""

    def commit(self) -> None:
        """Nothing to keep."""

    def rollback(self) -> None:
        """Nothing to take back."""

    def dirty_records(self) -> list[tuple[bytes, bytes | None]]:
        """Nothing changed."""
        return []

    def load_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """There is no log."""

    def snapshot(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Nothing."""


class Stateless:
    """What an application of such lanes answers to all but `apply`."""

    def open(self, lane: int) -> NoState:
        """No state."""
        return NoState()

    def opened(self, lane: int, state: NoState) -> None:
        """The lane starts."""

    def closed(self, lane: int) -> None:
        """The lane ends."""

    def committed(self, lane: int, state: NoState) -> None:
        """The round has taken effect."""

    def due_s(self, lane: int, state: NoState) -> float | None:
        """Nothing is due without input."""
        return None
