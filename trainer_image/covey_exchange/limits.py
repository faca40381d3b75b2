"""Bounds on time, size and number: what a slow or hostile peer can take from a site."""

from __future__ import annotations

from dataclasses import dataclass

from covey_exchange.segments import SEGMENT_BYTES


@dataclass(frozen=True)
class Limits:
    """Bounds of one exchange.

    Attributes:
        connect_seconds: for TCP and TLS of a connection that we open.
        handshake_seconds: for TLS and Hello of a connection that we accept.
        stall_seconds: without a byte in or out in the middle of a frame or transfer.
        trickle_seconds: for one frame or segment, however steadily its bytes come.
        ping_seconds: between signs of life on an idle control connection; 3 of them missing ends it.
        idle_seconds: without a frame on an accepted connection.
        backoff_seconds_min, backoff_seconds_max: pauses between attempts to reach a peer.
        repair_seconds: without progress of an announced update before it is fetched from any holder,
        patience_seconds: the same while the ring brings other updates.
        lines_per_peer: connections over which updates go to one successor at once.
        lines_per_update: those of one update.
        frame_bytes: largest frame.
        hello_bytes: largest frame before a peer has said what it wants.
        connections_per_peer: open at once, each way.
        handshakes: unfinished ones at once, of anybody.
        messages_per_site: kept at once.
        updates_per_site: kept at once.
        invalid_per_connection: refused messages before a connection is closed.
    """

    connect_seconds: float = 5.0
    handshake_seconds: float = 10.0
    stall_seconds: float = 30.0
    trickle_seconds: float = 300.0
    ping_seconds: float = 10.0
    idle_seconds: float = 60.0
    backoff_seconds_min: float = 0.2
    backoff_seconds_max: float = 15.0
    repair_seconds: float = 5.0
    patience_seconds: float = 60.0
    lines_per_peer: int = 8
    lines_per_update: int = 4
    frame_bytes: int = SEGMENT_BYTES + 2**16
    hello_bytes: int = 1024
    connections_per_peer: int = 32
    handshakes: int = 64
    messages_per_site: int = 4096
    updates_per_site: int = 8
    invalid_per_connection: int = 100
