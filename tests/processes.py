"""Other processes, as tests look at them."""

import os
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie has ended, whoever has yet to reap it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text("utf-8").rpartition(")")[2].split()[0] == "Z")
