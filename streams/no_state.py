"""The state of a lane that keeps none."""

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
