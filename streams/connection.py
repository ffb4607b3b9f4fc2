"""How every client of ours reaches the broker: its address, and how we prove who we are."""

from dataclasses import dataclass, field
from typing import Any

from streams import group_offsets, lenient_records
from streams.security import Security

lenient_records.install()
group_offsets.install()


@dataclass(frozen=True)
class Connection:
    """Where the broker is, and the TLS and SASL that it wants."""

    bootstrap: str
    security: Security = field(default_factory=Security)
    direct_transactions: bool = True  # by requests of our own, where the cluster takes them

    def options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client. Raises SecurityError."""
        return {"bootstrap_servers": self.bootstrap, **self.security.options()}
