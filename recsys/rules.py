"""Rules of the shop: items that no list may hold, that every list holds, or that count for more.

They stand in a TOML file that is read anew when it changes, without a restart:

    [[rule]]
    name = "no clearance"
    action = "exclude"          # or "include", or "boost" with a factor
    categories = ["clearance"]  # all conditions of a rule hold: items, categories, brands,
    price_max = 5.0             # price_min, price_max
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from models.columns import NONE, Slots
from recsys.catalogue import Catalogue
from streams.events import CandidateFilter, Price

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
GONE = (-1, -1)  # as no file is


class RulesError(ValueError):
    """A file of rules that cannot be read; the message says why, in a sentence."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule. A boost multiplies an item's odds of being chosen by `factor`."""

    name: str
    action: Literal["include", "exclude", "boost"]
    items: list[str] | None = None
    categories: list[str] | None = None
    brands: list[str] | None = None
    price_min: Price | None = None
    price_max: Price | None = None
    factor: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    places: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1  # of a list, that an include may take

    @property
    def everywhere(self) -> bool:
        """Whether it has no condition, so that all items are meant: a slip, most likely."""
        conditions = self.items, self.categories, self.brands, self.price_min, self.price_max
        return all(condition is None for condition in conditions)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rule: list[Rule] = []


@dataclass(frozen=True, slots=True)
class Applied:
    """The rules over the items known now: masks and sums by item slot."""

    size: int
    excluded: NDArray[np.bool_]  # (size,)
    boost: NDArray[np.float32]  # (size,), sum of the logarithms of the factors
    included: tuple[tuple[Slots, int], ...]  # items of each include, and the places it may take


class Rules:
    """The rules in force."""

    def __init__(self, rules: Sequence[Rule] = (), file: Path | None = None) -> None:
        self.rules = tuple(rules)
        self._file, self._seen, self._looked_s = file, GONE, -np.inf
        self._applied: tuple[tuple[int, int], Applied] | None = None
        if file is not None:
            self._seen = _stamp(file)
            self.rules = read(file)

    def over(self, catalogue: Catalogue) -> Applied | None:
        """The rules over a catalogue; None where there are none."""
        if self._file is not None and time.monotonic() - self._looked_s > LOOK_EVERY_S:
            self._look(self._file)
        if not self.rules:
            return None
        state = (len(catalogue.items), catalogue.changes)
        if self._applied is None or self._applied[0] != state:
            self._applied = state, self._apply(catalogue)
        return self._applied[1]

    def reason(self, catalogue: Catalogue, slot: int) -> str | None:
        """The name of the rule that keeps an item out; None where none does."""
        for rule in self.rules:
            if rule.action == "exclude" and _mask(rule, catalogue)[slot]:
                return rule.name
        return None

    def _look(self, file: Path) -> None:
        """Read the file anew where it changed; what cannot be read changes nothing."""
        self._looked_s = time.monotonic()
        stamp = _stamp(file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self.rules, self._applied = read(file), None
            log.info("rules.read", file=str(file), rules=len(self.rules))
        except RulesError as error:
            log.warning("rules.refused", error=str(error))

    def _apply(self, catalogue: Catalogue) -> Applied:
        size = len(catalogue.items)
        excluded, boost = np.zeros(size, np.bool_), np.zeros(size, np.float32)
        included = []
        for rule in self.rules:
            mask = _mask(rule, catalogue)
            if rule.action == "exclude":
                excluded |= mask
            elif rule.action == "boost":
                boost[mask] += np.float32(np.log(rule.factor))
            else:
                included.append((np.flatnonzero(mask).astype(np.int32), rule.places))
        return Applied(size, excluded, boost, tuple(included))


def read(file: Path) -> tuple[Rule, ...]:
    """The rules of a file. Raises RulesError."""
    try:
        found = msgspec.toml.decode(file.read_bytes(), type=_File)
    except OSError as error:
        raise RulesError(f"{file}: {error.strerror}") from None
    except ValueError as error:  # a DecodeError is one
        raise RulesError(f"{file}: {error}") from None
    for rule in found.rule:
        if rule.everywhere:
            raise RulesError(f"{file}: the rule {rule.name!r} names no items, nor a condition")
    return tuple(found.rule)


def _mask(rule: Rule, catalogue: Catalogue) -> NDArray[np.bool_]:
    wanted = CandidateFilter(
        categories=rule.categories, price_min=rule.price_min, price_max=rule.price_max,
        items=rule.items,
    )  # fmt: skip
    mask = catalogue.select(wanted)
    if rule.brands is not None:
        codes = [catalogue.brands.codes.get(name, NONE - 1) for name in rule.brands]
        mask &= np.isin(catalogue.brand[: len(mask)], codes)
    return mask


def _stamp(file: Path) -> tuple[int, int]:
    """What changes with the file; `GONE` where it is not there."""
    try:
        stat = file.stat()
    except OSError:
        return GONE
    return stat.st_mtime_ns, stat.st_size
