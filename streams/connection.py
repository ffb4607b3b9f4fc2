"""How every client of ours reaches the broker: address, credentials, group."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Connection:
    """Where the broker is. `security` holds aiokafka's keyword arguments for TLS and SASL."""

    bootstrap: str
    security: dict[str, Any] = field(default_factory=dict, repr=False)

    def options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client."""
        return {"bootstrap_servers": self.bootstrap, **self.security}
