"""How far this site is: what people and the operator see, changed by the loop and read by the status server."""

from __future__ import annotations

from dataclasses import dataclass, field

from covey_exchange.exchange import Exchange

from covey_validator.incentives.book import Book
from covey_validator.incentives.reasons import percent


@dataclass(frozen=True)
class Standing:
    """What the incentive rule has made of this member; amounts in base units of the stake token.

    Attributes:
        stake: snapshot for the task.
        held: provisional penalties.
        slashed: final ones.
        removed: whether its updates and scores count no more.
        words: what the newest epoch, or the end, meant for it, and why.
    """

    stake: int
    held: int
    slashed: int
    removed: bool
    words: str

    @classmethod
    def of(cls, book: Book, site: str) -> Standing | None:
        """None until the first epoch has been judged."""
        words = book.words(site)
        if not words:
            return None
        penalty = book.penalties().get(site)
        held, slashed = (penalty.held, penalty.slashed) if penalty else (0, 0)
        account = book.state.accounts[site]
        return cls(account.stake, held, slashed, account.removed is not None, words)

    def as_json(self) -> dict[str, object]:
        """Shares of stake in words for people, amounts as strings for programs."""
        return {
            "held": str(self.held),
            "slashed": str(self.slashed),
            "heldShare": percent(self.held, self.stake),
            "slashedShare": percent(self.slashed, self.stake),
            "removed": self.removed,
            "words": self.words,
        }


@dataclass
class Progress:
    """Numbers and words of one validator.

    Attributes:
        round: rounds that are certified.
        rounds: rounds of the task.
        phase: one word.
        message: what happens now, or what keeps it.
        suspended: participants whose stake does not count now -> the round since which.
        loss: median holdout loss of the newest model.
        metrics: of the newest candidate on our own holdout.
        raw_bytes: float32 bytes of the updates that we sent.
        payload_bytes: their bytes as encoded.
        egress_bits_per_second: cap on exchange traffic now; None for none.
        bytes_before: exchange bytes of earlier lives of this validator.
        standing: what the incentive rule has made of this member; None until an epoch was judged.
        reward: cumulative reward of this site in base units.
        round_seconds: how long the rounds of this life took.
    """

    task: str
    rounds: int = 0
    round: int = 0
    phase: str = "Starting"
    message: str = ""
    suspended: dict[str, int] = field(default_factory=dict)
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    raw_bytes: int = 0
    payload_bytes: int = 0
    egress_bits_per_second: float | None = None
    bytes_before: int = 0
    bytes_now: int = 0
    peers: int = 0
    peers_connected: int = 0
    standing: Standing | None = None
    reward: int = 0
    token_decimals: int = 18
    model_digest: bytes | None = None
    transactions: list[tuple[str, str]] = field(default_factory=list)
    round_seconds: list[float] = field(default_factory=list)

    @property
    def bytes_sent(self) -> int:
        """Exchange bytes, framing included, over all lives of this validator."""
        return self.bytes_before + self.bytes_now

    @property
    def compression_ratio(self) -> float | None:
        """float32 bytes by encoded bytes."""
        return self.raw_bytes / self.payload_bytes if self.payload_bytes else None

    @property
    def eta_seconds(self) -> float | None:
        """Rounds left by the mean of the last ten."""
        recent = self.round_seconds[-10:]
        return (self.rounds - self.round) * sum(recent) / len(recent) if recent else None

    @property
    def note(self) -> str:
        """Who is missing, in words; empty if nobody is."""
        away = [f"{site} has not answered a roll call since round {since}" for site, since in self.suspended.items()]
        return "; ".join(away) + ": without effect until it returns, it keeps its stake" if away else ""

    def look_at(self, exchange: Exchange) -> None:
        """Bring traffic and connections up to date."""
        self.bytes_now = sum(peer.bytes_sent for peer in exchange.traffic.peers.values())
        self.peers_connected = len(exchange.connected)

    def say(self, phase: str, message: str) -> None:
        """Set phase and message."""
        self.phase, self.message = phase, message
