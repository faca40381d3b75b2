"""Mutual TLS 1.3 whose only trust anchors are the certificates of the other participants, as the chain has them."""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from covey_exchange.envelope import Peer
from covey_exchange.errors import Refusal

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """Paths of this site's PEM key and certificate."""

    key: Path
    certificate: Path


def key_hash(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a DER certificate, 32 bytes: what a member registers on chain.

    Raises:
        ValueError: no certificate.
    """
    public = x509.load_der_x509_certificate(certificate).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class Trust:
    """The two TLS contexts of a site, and the pin check after each handshake."""

    def __init__(self, files: TlsFiles, peers: Iterable[Peer]) -> None:
        """Trust the given peers; one whose certificate contradicts its key hash is left out, with a warning."""
        anchors = []
        self._site_by_key: dict[bytes, str] = {}
        for peer in peers:
            problem = _pin_problem(peer)
            if problem:
                _log.warning("%s cannot connect: %s; it has to register its certificate again", peer.address, problem)
                continue
            anchors.append(peer.certificate)
            self._site_by_key[peer.tls_key_hash] = peer.address
        self.server = _context(ssl.PROTOCOL_TLS_SERVER, files, anchors)
        self.client = _context(ssl.PROTOCOL_TLS_CLIENT, files, anchors)

    def site_of(self, certificate: bytes) -> str | None:
        """The participant whose registered key a DER certificate has; None if nobody's."""
        return self._site_by_key.get(key_hash(certificate))


def _pin_problem(peer: Peer) -> str | None:
    try:
        matches = key_hash(peer.certificate) == peer.tls_key_hash
    except ValueError as error:
        return f"its certificate on chain cannot be read ({error})"
    return None if matches else "its certificate on chain has another key than its registered hash"


def _context(protocol: int, files: TlsFiles, anchors: list[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the key is pinned; endpoints are host names that no certificate needs to know
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(files.certificate, files.key)
    if anchors:
        context.load_verify_locations(cadata=b"".join(anchors))
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # every connection proves its key anew
    return context


def refusal_of(error: Exception) -> Refusal:
    """The kind of a failed handshake."""
    if isinstance(error, TimeoutError):
        return Refusal.HANDSHAKE_TIMEOUT
    if isinstance(error, ssl.SSLCertVerificationError):
        untrusted = (18, 19, 20, 21, 27, 28)  # X509_V_ERR_*: self-signed, no issuer, not trusted, rejected
        return Refusal.UNKNOWN_CERTIFICATE if error.verify_code in untrusted else Refusal.INVALID_CERTIFICATE
    if isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return Refusal.NO_CERTIFICATE
    return Refusal.HANDSHAKE_FAILED
