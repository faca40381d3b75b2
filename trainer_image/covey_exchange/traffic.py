"""What went over the wire, by peer: the numbers behind status and metrics."""

from __future__ import annotations

import logging
import threading
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
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def sent(self, count: int) -> None:
        """Add bytes that went out; from any thread."""
        with self._lock:
            self.bytes_sent += count

    def received(self, count: int) -> None:
        """Add bytes that came in; from any thread."""
        with self._lock:
            self.bytes_received += count


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
