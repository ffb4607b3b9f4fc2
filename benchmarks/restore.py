"""Restart: how long the state of a lane takes to come back, and what many users cost."""

from benchmarks import process
from benchmarks.bench import Bench, Table


def run(bench: Bench) -> list[Table]:
    """One lane with all the users, the worst case."""
    rows = []
    for users in (10_000, 100_000, 1_000_000) if not bench.quick else (1_000,):
        found = process.run("restore", {
            "bootstrap": bench.connection.bootstrap, "topic": bench.fresh("restore-state-"),
            "users": users, "folder": str(bench.folder),
        })  # fmt: skip
        rows.append({name: round(value, 2) for name, value in found.items()})
    notes = ["`bytes/user` is memory of the process, ids included; users of 3 events each. "
             "Both ways back give the digest of the state that was written."]  # fmt: skip
    return [Table("Restoring one lane", list(rows[0]), rows, notes)]
