"""Settings of the interpreter that a busy worker needs; the figures are in docs/decisions.md."""

import gc
import sys

SWITCH_INTERVAL_S = 0.001  # the event loop must not wait long for the interpreter
GC_THRESHOLDS = (50_000, 20, 100)  # records come by the thousand and hold no cycles


def tune() -> None:
    """Once, before anything runs."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)


def settle() -> None:
    """Once everything that stays is there: collections need not look at it again."""
    gc.collect()
    gc.freeze()
