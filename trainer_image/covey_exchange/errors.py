"""Kinds of failure between sites; each names the site."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Why a connection or message was refused; the label of the counters."""

    NO_CERTIFICATE = "no certificate"
    UNKNOWN_CERTIFICATE = "certificate of no participant"
    INVALID_CERTIFICATE = "certificate not valid"
    WRONG_KEY = "key of another participant"
    HANDSHAKE_FAILED = "TLS handshake failed"
    HANDSHAKE_TIMEOUT = "TLS handshake too slow"
    TOO_MANY_HANDSHAKES = "too many handshakes at once"
    TOO_MANY_CONNECTIONS = "too many connections of one site"
    WRONG_PROTOCOL = "another protocol version"
    WRONG_TASK = "another task"
    WRONG_SITE = "another site than the certificate says"
    OVERSIZE_FRAME = "frame too large"
    MALFORMED_FRAME = "frame that is no protobuf of ours"
    OUT_OF_ORDER = "frame out of order"
    CORRUPT_SEGMENT = "segment that contradicts the signed root"
    INVALID_OFFER = "offer that contradicts its header"
    OVERSIZE_PAYLOAD = "payload too large"
    UNKNOWN_SITE = "signed for a site that takes no part"
    WRONG_SIGNER = "signed by another key than the site's"
    WRONG_ATTACHMENT = "attachment that contradicts the signed hash"
    FLOOD = "too many messages of one site"


class ExchangeError(Exception):
    """Base of all failures between sites."""


class UnknownPeer(ExchangeError, KeyError):
    """An address that is no other participant of the task."""

    def __init__(self, site: str) -> None:
        super().__init__(f"{site} is no other participant of this task")
        self.site = site


class PeerUnreachable(ExchangeError):
    """No connection, or it broke or stalled; trying again later can help."""

    def __init__(self, site: str, problem: str) -> None:
        super().__init__(f"{site}: {problem}")
        self.site = site


class ProtocolViolation(ExchangeError):
    """The peer sent what the protocol does not allow; the connection is closed."""

    def __init__(self, site: str, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{site}: {refusal}{': ' if detail else ''}{detail}")
        self.site = site
        self.refusal = refusal


class PeerRefused(ExchangeError):
    """The peer, or our check of the peer, says no; the reason is in words."""

    def __init__(self, site: str, reason: str) -> None:
        super().__init__(f"{site}: {reason}")
        self.site = site
        self.reason = reason


class ScratchFailed(ExchangeError):
    """This site cannot keep what comes: its scratch volume is full or broken."""


class UpdateUnavailable(ExchangeError):
    """No reachable participant holds the update."""

    def __init__(self, digest: bytes, attempts: dict[str, str]) -> None:
        tried = "; ".join(f"{site}: {why}" for site, why in attempts.items()) or "no other participant"
        super().__init__(f"update 0x{digest.hex()} is not to be had ({tried})")
        self.digest = digest
        self.attempts = attempts


class MessageRefused(ExchangeError):
    """A signed message that must not be used."""

    def __init__(self, site: str, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{site}: {refusal}{': ' if detail else ''}{detail}")
        self.site = site
        self.refusal = refusal


class MalformedMessage(MessageRefused):
    """Fields missing or out of range."""

    def __init__(self, detail: str) -> None:
        super().__init__("unknown", Refusal.MALFORMED_FRAME, detail)


class UnknownSite(MessageRefused):
    """The site that the message names, or the key that signed it, belongs to no participant."""

    def __init__(self, site: str) -> None:
        super().__init__(site, Refusal.UNKNOWN_SITE)


class WrongSigner(MessageRefused):
    """The signature is not by the site's session key."""

    def __init__(self, site: str, detail: str) -> None:
        super().__init__(site, Refusal.WRONG_SIGNER, detail)


class WrongTask(MessageRefused):
    """The message is for another task."""

    def __init__(self, site: str, task_id: bytes) -> None:
        super().__init__(site, Refusal.WRONG_TASK, "0x" + task_id.hex())


class WrongAttachment(MessageRefused):
    """The attachment does not hash to the signed field, or there must be none."""

    def __init__(self, site: str, detail: str) -> None:
        super().__init__(site, Refusal.WRONG_ATTACHMENT, detail)
