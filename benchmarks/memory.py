"""Memory over a long stream with churn: flat once the bound on users is reached."""

from benchmarks import process
from benchmarks.bench import Bench, Table

EVENTS = 10_000_000


def run(bench: Bench) -> list[Table]:
    """One process learns the stream and is looked at ten times."""
    events, users_max = bench.size(EVENTS, 20_000), bench.size(100_000, 500)
    found = process.Contender("churn", {"events": events, "users_max": users_max})
    figures = found.finish(timeout_s=3600)
    looks = figures["looks"]
    notes = [
        f"{events:,} events; at most {users_max:,} users are remembered. "
        f"{figures['bytes/item']:,.0f} bytes an item; {figures['empty MB']:.0f} MB at the start."
    ]
    return [Table("Memory while users come and go", list(looks[0]), looks, notes,
                  ("lines", "events", "memory MB"))]  # fmt: skip
