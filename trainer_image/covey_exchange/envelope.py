"""Who may say what: participants of a task, and the check of every signed message against them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from covey_chain import signing
from covey_chain.signing import Domain, SignatureInvalid
from covey_chain.types import Participant, Proposal, RollCall, RoundResult, ScoreReveal, Signable, UpdateHeader
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from covey_exchange.errors import UnknownSite, WrongAttachment, WrongSigner, WrongTask
from covey_exchange.messages import Envelope


@dataclass(frozen=True)
class Peer:
    """A participant as the chain describes it, oneself included.

    Attributes:
        address: owner address (checksum), the site's name everywhere.
        session_key: address of the key that signs its messages of this task.
        endpoint: "host:port" of its exchange.
        tls_key_hash: SHA-256 of its certificate's public key (SubjectPublicKeyInfo), 32 bytes.
        certificate: DER.
    """

    address: str
    session_key: str
    endpoint: str
    tls_key_hash: bytes
    certificate: bytes

    @classmethod
    def of(cls, participant: Participant) -> Peer:
        """From the chain's record."""
        return cls(
            participant.address,
            participant.session_key,
            participant.endpoint,
            participant.tls_key_hash,
            participant.certificate,
        )


@dataclass(frozen=True)
class Message:
    """A verified message; only `Roster.verify` makes one.

    Attributes:
        site: owner address of the signer.
        envelope: body, signature and attachment as they came.
        digest: EIP-712 digest of the body; for an UpdateHeader the name of the update.
    """

    site: str
    envelope: Envelope
    digest: bytes

    @property
    def body(self) -> Signable:
        """What was signed."""
        return self.envelope.body

    @cached_property
    def identity(self) -> bytes:
        """Tells messages apart: by content and signer, not by signature, of which a lying site can make many."""
        return hashlib.sha256(self.digest + to_canonical_address(self.site)).digest()


@dataclass(frozen=True)
class SiteUpdate:
    """A whole update, every byte of it checked against the root in the signed header.

    Attributes:
        message: the signed header as it came.
        header: its body.
        payload: read-only; of another site's update it may lie in a file, which is there as long as this is held.
    """

    message: Message
    header: UpdateHeader
    payload: bytes | memoryview

    @property
    def site(self) -> str:
        """Owner address of the site that made it."""
        return self.header.site

    @property
    def digest(self) -> bytes:
        """Name of the update: EIP-712 digest of its header."""
        return self.message.digest


class Roster:
    """The participants of one task and their session keys."""

    def __init__(self, domain: Domain, task_id: bytes, peers: Iterable[Peer]) -> None:
        self.domain = domain
        self.task_id = task_id
        self.peers = {peer.address: peer for peer in peers}
        self._by_session_key = {peer.session_key: peer.address for peer in self.peers.values()}

    def digest(self, body: Signable) -> bytes:
        """EIP-712 digest in the task's domain."""
        return signing.digest(self.domain, body)

    def seal(self, body: Signable, session_key: bytes, attachment: bytes = b"") -> Envelope:
        """Sign a body with a session key."""
        return Envelope(body, signing.sign(self.domain, body, session_key), attachment)

    def verify(self, envelope: Envelope) -> Message:
        """Check task, signer and attachment of a message.

        Raises:
            WrongTask: it is for another task.
            UnknownSite: it names no participant, or (for a RoundResult, which names none) no participant signed it.
            WrongSigner: another key than the site's session key signed it, or the signature is invalid.
            WrongAttachment: the attachment is not the bytes behind the signed hash.
        """
        body = envelope.body
        named = None if isinstance(body, RoundResult) else body.site
        if body.task_id != self.task_id:
            raise WrongTask(named or "unknown", body.task_id)
        if named is not None and named not in self.peers:
            raise UnknownSite(named)
        try:
            signer = signing.recover(self.domain, body, envelope.signature)
        except SignatureInvalid as error:
            raise WrongSigner(named or "unknown", str(error)) from error
        site = self._by_session_key.get(signer) if named is None else named
        if site is None:
            raise UnknownSite(signer)
        if self.peers[site].session_key != signer:
            raise WrongSigner(site, f"signed by {signer}, the session key is {self.peers[site].session_key}")
        _check_attachment(site, envelope)
        return Message(site, envelope, self.digest(body))


def _check_attachment(site: str, envelope: Envelope) -> None:
    match body := envelope.body:
        case Proposal():
            expected = body.value
        case ScoreReveal():
            expected = body.scores_hash
        case RollCall():
            expected = body.evidence_hash
        case _:
            if envelope.attachment:
                raise WrongAttachment(site, f"{type(body).__name__} has no attachment")
            return
    if keccak(envelope.attachment) != expected:
        raise WrongAttachment(site, f"{type(body).__name__} is not about the attached bytes")
