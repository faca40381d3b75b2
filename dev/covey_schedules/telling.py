"""Events and actions in words, for a replay."""

from __future__ import annotations

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement_types import (
    NIL,
    Action,
    Candidate,
    Certificate,
    Enter,
    Equivocation,
    Event,
    Judge,
    Judged,
    Leave,
    Received,
    Schedule,
    Sign,
    Start,
    Timeout,
)


def slot(message: Proposal | Vote) -> tuple[str, int, int]:
    """What a site may sign only once: site, view, kind (0 is a proposal)."""
    return message.site, message.view, message.kind if isinstance(message, Vote) else 0


def short(site: str) -> str:
    """A site's number."""
    return f"site {int(site, 16)}"


def _value(value: bytes) -> str:
    return "nil" if value == NIL else value[:1].hex()


def tell(what: Event | Action) -> str:
    """One event or action."""
    match what:
        case Received(message) | Sign(message):
            kind = ("proposal", "prevote", "precommit")[slot(message)[2]]
            proof = f" proven by view {message.valid_view}" if isinstance(message, Proposal) else ""
            return f"{type(what).__name__} {kind} of {short(message.site)}, view {message.view}: " + (
                _value(message.value) + proof
            )
        case Certificate(value, view):
            return f"Certificate, view {view}: {_value(value)}"
        case Candidate(value) | Judge(value):
            return f"{type(what).__name__} {_value(value)}"
        case Judged(value, valid):
            return f"Judged {_value(value)} {'valid' if valid else 'invalid'}"
        case Equivocation(first, second):
            return f"Equivocation: {tell(first)}, and {tell(second)}"
        case Timeout(stage, view) | Schedule(stage, view):
            return f"{type(what).__name__} {stage.name} of view {view}"
        case Leave(number):
            return f"Leave, for epoch {number}"
        case Enter(epoch):
            return f"Enter epoch {epoch.number}: " + ", ".join(short(site) for site in sorted(epoch.weights))
        case Start():
            return "Start"
