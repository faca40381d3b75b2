"""What went over the wire, by peer: the numbers behind status and metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from covey_exchange.errors import Refusal

STRANGER = "unknown"
_log = logging.getLogger(__name__)


@dataclass
class PeerTraffic:
    """Counters of one peer since the start; bytes are frames with their lengths, without TLS and TCP headers."""

    bytes_sent: int = 0
    bytes_received: int = 0
    reconnects: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)


class Traffic:
    """Counters of all peers; `STRANGER` collects refusals of whoever could not be identified."""

    def __init__(self, sites: Iterable[str]) -> None:
        self.peers = {site: PeerTraffic() for site in (*sites, STRANGER)}

    def of(self, site: str) -> PeerTraffic:
        """Counters of one peer."""
        return self.peers.setdefault(site, PeerTraffic())

    def refuse(self, site: str, refusal: Refusal, detail: str = "") -> None:
        """Count and log a refusal."""
        self.of(site).refused[refusal] += 1
        _log.warning("refused %s: %s%s", site, refusal, f" ({detail})" if detail else "")
