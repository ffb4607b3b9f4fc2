"""Why no connection came about: aiokafka tells its log alone, whatever it raises afterwards."""

import logging
import time

TOLD = "Unable connect to"
RECENT_S = 60.0  # what was noted before is of another trouble


class _Newest(logging.Handler):
    """Keeps the newest cause, and prints nothing."""

    cause, at_s = "", 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Note what a client gives as the reason, its last argument."""
        if str(record.msg).startswith(TOLD) and isinstance(record.args, tuple) and record.args:
            self.cause = str(record.args[-1]) or type(record.args[-1]).__name__
            self.at_s = time.monotonic()


_newest = _Newest(logging.ERROR)


def listen() -> None:
    """Have the clients' log kept from standard error, and their reasons noted."""
    logger = logging.getLogger("aiokafka")
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    if _newest not in logger.handlers:
        logger.addHandler(_newest)


def why(error: BaseException) -> str:
    """What stood in the way of a connection: a password, a certificate, nobody there.

    >>> why(OSError("no route"))
    'no route'
    """
    recent = time.monotonic() - _newest.at_s < RECENT_S
    return (_newest.cause if recent else "") or str(error) or type(error).__name__
