"""Key material: what is read from Secrets, and what is made for them."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from eth_account import Account

from covey_operator.kinds import Object
from covey_operator.plan.model import Tls
from covey_operator.plan.storage import RAY_TOKEN, SESSION_KEY, TLS_CERT, TLS_KEY

CERTIFICATE_DAYS = 3650
_PRIVATE_KEY = re.compile(r"^(0x)?[0-9a-fA-F]{64}$")


class BadKeyError(ValueError):
    """A Secret holds something that is not the key that is expected there."""


def read_entry(secret: Object, key: str) -> bytes:
    """The decoded value of one key of a Secret.

    Raises:
        BadKeyError: the key is absent or not base64.
    """
    data = secret.get("data") or {}
    if key not in data:
        raise BadKeyError(f'key "{key}" is missing; it has: {", ".join(sorted(data)) or "nothing"}')
    try:
        return base64.b64decode(data[key], validate=True)
    except binascii.Error as error:
        raise BadKeyError(f'key "{key}" is not base64') from error


def wallet_key(text: bytes) -> tuple[str, str]:
    """A secp256k1 key from its hex text: (0x-hex key, checksum address).

    Raises:
        BadKeyError: not 64 hex digits, or not a key of the curve. The message never shows the text.
    """
    found = text.decode("utf-8", errors="replace").strip()
    if not _PRIVATE_KEY.match(found):
        raise BadKeyError(f"expected 0x and 64 hex digits, found {len(found)} characters of another form")
    key = "0x" + found.removeprefix("0x").lower()
    try:
        return key, str(Account.from_key(key).address)
    except Exception as error:  # the library raises several kinds for a number outside of the curve's order
        raise BadKeyError("not a key of secp256k1 (zero, or beyond the order of the curve)") from error


def new_session() -> dict[str, str]:
    """Data of a Secret with a fresh session key."""
    return {SESSION_KEY: _encode(("0x" + bytes(Account.create().key).hex()).encode())}


def new_ray_token() -> dict[str, str]:
    """Data of a Secret with a fresh token for one Ray cluster."""
    return {RAY_TOKEN: _encode(secrets.token_urlsafe(32).encode())}


def new_tls(common_name: str, now: datetime) -> dict[str, str]:
    """Data of a Secret with a fresh P-256 key and its self-signed certificate.

    Trust comes from the chain, where the hash of the public key is registered; the certificate only carries it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {TLS_KEY: _encode(private), TLS_CERT: _encode(certificate.public_bytes(serialization.Encoding.PEM))}


def read_tls(secret: Object) -> Tls:
    """The certificate of the member's Secret.

    Raises:
        BadKeyError: no certificate in PEM form.
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_entry(secret, TLS_CERT))
    except ValueError as error:
        raise BadKeyError(f'key "{TLS_CERT}" is not a certificate in PEM form: {error}') from error
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    return Tls(certificate.public_bytes(serialization.Encoding.DER), digest.finalize())


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def utc_now() -> datetime:
    """The time of a pass, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
