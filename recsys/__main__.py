"""`recsys` and `python -m recsys`."""

import sys


def main() -> None:
    """Entry point of both: Ctrl-C ends it without a traceback while it is still importing, too."""
    try:
        from recsys.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("recsys: stopped\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
