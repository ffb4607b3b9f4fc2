"""What the lanes of one role have done since the process started, for its metrics."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Totals:
    """Counts that only grow, whatever lanes come and go."""

    records: int = 0
    transactions: Counter[str] = field(default_factory=Counter)  # by outcome
    stage_seconds: dict[str, float] = field(default_factory=dict)

    def committed(self, records: int, seconds: float) -> None:
        """A transaction of so many records took effect."""
        self.records += records
        self.transactions["committed"] += 1
        self.spent("commit", seconds)

    def spent(self, stage: str, seconds: float) -> None:
        """A stage took so long, once more."""
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds
