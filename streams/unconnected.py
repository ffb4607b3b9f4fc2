"""Why no connection came about: aiokafka tells its log alone, whatever it raises afterwards."""

import logging

TOLD = "Unable connect to"


class _Newest(logging.Handler):
    """Keeps the newest cause, and prints nothing."""

    cause = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Note what a client gives as the reason, its last argument."""
        if str(record.msg).startswith(TOLD) and isinstance(record.args, tuple) and record.args:
            self.cause = str(record.args[-1]) or type(record.args[-1]).__name__


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
    return _newest.cause or str(error) or type(error).__name__
