"""`recsys` and `python -m recsys`."""

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Entry point of both: Ctrl-C ends it without a traceback while it is still importing, too."""
    # None stands for what the caller has closed.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no … is told \u2026
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from recsys.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("recsys: stopped\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
