"""What the lanes of one role have in common."""

from dataclasses import dataclass, field
from pathlib import Path

from streams.compute import Compute
from streams.connection import Connection
from streams.totals import Totals


@dataclass(frozen=True)
class LaneConfig:
    """Where they read and write, and how a round is bounded."""

    connection: Connection
    group_id: str
    topics: tuple[str, ...]
    state_topic: str | None
    urgent: frozenset[str] = frozenset()  # of the topics: see `Waiting`
    notes_positions: bool = False  # in the state's log, for when the group's are forgotten
    snapshot_dir: Path | None = None
    snapshot_interval_s: float = 60.0
    transaction_timeout_ms: int = 10_000
    round_records_max: int = 4000
    totals: Totals = field(default_factory=Totals, compare=False)
    rounds_per_s_max: float = 200.0  # of all lanes together: each is a transaction's CPU
    compute: Compute = field(default_factory=Compute, compare=False)  # where states are touched
