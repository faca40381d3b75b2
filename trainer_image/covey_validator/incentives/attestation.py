"""An enclave in the auditor's place: certificates say that the auditor's key lives in code with some measurement.

The document is a chain of X.509 certificates. The first is of the auditor's key (secp256k1), made in the enclave, and
carries the measurement of the code that made it; the last is of the key that the terms of the task name, that of the
enclave's maker or of a verifier of makers' quotes. Times of validity are not looked at: a verdict must mean the same
whenever a task is recomputed. Makers' own quotes differ; whoever verifies them issues such a chain.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from itertools import pairwise

from covey_api.incentives import EnclaveSpec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_keys import keys

# 2.25 and a random UUID (ITU-T X.667): an octet string, the measurement.
MEASUREMENT = x509.ObjectIdentifier("2.25.235728549861555344433468942257845288353")


class AttestationInvalid(ValueError):
    """Certificates that do not show what the terms ask for; says what is missing."""


def attested(enclave: EnclaveSpec) -> str:
    """The address whose key the certificates attest.

    Raises:
        AttestationInvalid: they cannot be read, do not lead to the named key, or are of other code.
    """
    try:
        chain = [x509.load_der_x509_certificate(base64.b64decode(each)) for each in enclave.certificates]
    except (ValueError, binascii.Error) as error:
        raise AttestationInvalid(f"a certificate of the enclave cannot be read: {error}") from error
    for certificate, issuer in pairwise([*chain, chain[-1]]):  # the last has issued itself
        _issued(certificate, issuer)
    root = chain[-1].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if "0x" + hashlib.sha256(root).hexdigest() != enclave.root_key:
        raise AttestationInvalid("the certificates of the enclave do not lead to the key that the terms name")
    measured = _measurement(chain[0])
    if measured != enclave.measurement:
        raise AttestationInvalid(f"the enclave runs code with measurement {measured}, not {enclave.measurement}")
    key = chain[0].public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256K1):
        raise AttestationInvalid(
            "the first certificate of the enclave is not of a secp256k1 key, so it signs no verdict"
        )
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return keys.PublicKey(point[1:]).to_checksum_address()


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Hold a certificate to the signature of its issuer, which must be a certificate authority."""
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise AttestationInvalid(
            f"certificate {certificate.subject.rfc4514_string()} was not issued by the next one: {error}"
        ) from error
    if not constraints.ca:
        raise AttestationInvalid(f"certificate {issuer.subject.rfc4514_string()} may not issue others")


def _measurement(certificate: x509.Certificate) -> str:
    try:
        value = certificate.extensions.get_extension_for_oid(MEASUREMENT).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise AttestationInvalid(f"the first certificate of the enclave carries no measurement: {error}") from error
    assert isinstance(value, x509.UnrecognizedExtension), "nobody else knows this identifier"
    data = value.value
    if len(data) < 2 or data[0] != 4 or data[1] != len(data) - 2:  # DER: an octet string of less than 128 bytes
        raise AttestationInvalid("the measurement of the enclave is no octet string")
    return "0x" + data[2:].hex()
