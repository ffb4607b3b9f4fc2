"""Named places where a test ends this process as a power cut would, or freezes it.

`STREAMS_CRASH_AT=after-commit:3` kills it when it comes to that place for the third time,
`after-commit:3:SIGSTOP` freezes it there. Where the variable is not set a place costs one
comparison of strings, a few times a transaction.
"""

import os
import signal

VARIABLE = "STREAMS_CRASH_AT"
POINTS = (
    "before-send",  # the round is applied in memory, nothing is sent
    "before-offsets",  # everything is sent, the offsets are not
    "before-commit",  # the offsets too, the transaction is open
    "after-commit",  # the transaction is committed, memory does not know yet
    "restore",  # some of the state is read back
    "snapshot",  # a snapshot is being written
)


def _armed(text: str) -> tuple[str, int, signal.Signals]:
    point, _, rest = text.partition(":")
    passes, _, name = rest.partition(":")
    if point and point not in POINTS:
        raise ValueError(f"{VARIABLE}={text}: the places are {', '.join(POINTS)}")
    return point, int(passes or 1), signal.Signals[name or "SIGKILL"]


_point, _left, _signal = _armed(os.environ.get(VARIABLE, ""))


def reach(point: str) -> None:
    """The process has come to a place."""
    global _left  # noqa: PLW0603
    if point == _point:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)
