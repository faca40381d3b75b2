"""One honest site of a world."""

from __future__ import annotations

from dataclasses import dataclass, field

from covey_exchange.agreement_state import State
from covey_exchange.agreement_types import Certificate, Epoch, Instance


@dataclass
class Site:
    """One honest site: its machine, and what its disk holds.

    Attributes:
        log: numbers of all messages, ours and others', in the order in which they were written.
        synced: how many of them survive a crash for sure: all that was written before our last signature.
        known: values whose bytes are here.
        waiting: values that the machine asked about and whose bytes are not here.
        life: timers of an earlier life are dead.
        accused: sites that this life has accused.
        epochs: those after the first one that it knows; on chain, so never lost.
        left: epoch of the newest roll call that it has signed; on disk.
        shown: numbers of the messages that it showed then; on disk.
        lost_at: what `left` was when it lost its disk; None if it never did.
        since: when it last came up or entered an epoch.
    """

    name: str
    instance: Instance
    state: State
    candidate: bytes
    log: dict[int, None] = field(default_factory=dict)
    synced: int = 0
    known: set[bytes] = field(default_factory=set)
    waiting: set[bytes] = field(default_factory=set)
    up: bool = True
    life: int = 0
    certificate: Certificate | None = None
    accused: set[str] = field(default_factory=set)
    epochs: list[Epoch] = field(default_factory=list)
    left: int = 0
    shown: tuple[int, ...] = ()
    lost_at: int | None = None
    since: float = 0.0

    @property
    def votes_from(self) -> int:
        """The first epoch in which it may vote: it has left those before, or may have voted in them (ADR 0014)."""
        return self.left if self.lost_at is None else max(self.left, self.lost_at + 1)

    @property
    def is_silent(self) -> bool:
        """Whether it must not vote before it has answered one more roll call."""
        return self.left < self.votes_from
