"""An enclave's certificates attest the auditor's key, or the task is refused; with a test root, no enclave ever ran."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from dataclasses import dataclass

import pytest
from covey_api.incentives import EnclaveSpec
from covey_chain import signing
from covey_validator.errors import TaskFailed
from covey_validator.incentives.attestation import MEASUREMENT, AttestationInvalid, attested
from covey_validator.task import Task
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from validator_world import DOMAIN, participants, published, terms

KEY = b"\x07" * 32
CODE = bytes(range(48))
NOW = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)  # long over: times are not looked at


@dataclass
class Authority:
    """Who signs certificates."""

    name: str
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> Authority:
        return cls(name, ec.generate_private_key(ec.SECP384R1()))

    def certify(
        self, subject: str, key: ec.EllipticCurvePublicKey, ca: bool = False, measured: bytes | None = None
    ) -> str:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW)
            .not_valid_after(NOW + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if measured is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(MEASUREMENT, measured), critical=False)
        certificate = builder.sign(self.key, hashes.SHA384())
        return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


MAKER, MACHINE = Authority.new("maker"), Authority.new("machine")
OWN = ec.derive_private_key(int.from_bytes(KEY, "big"), ec.SECP256K1()).public_key()
ROOT = MAKER.certify("maker", MAKER.key.public_key(), ca=True)
BETWEEN = MAKER.certify("machine", MACHINE.key.public_key(), ca=True)
LEAF = MACHINE.certify("auditor", OWN, measured=b"\x04\x30" + CODE)
ROOT_KEY = hashlib.sha256(
    MAKER.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).hexdigest()


def enclave(*certificates: str, root: str = ROOT_KEY, code: bytes = CODE) -> EnclaveSpec:
    chain = list(certificates or (LEAF, BETWEEN, ROOT))
    return EnclaveSpec(measurement="0x" + code.hex(), root_key="0x" + root, certificates=chain)


def test_the_certificates_lead_from_the_named_key_to_that_of_the_auditor():
    assert attested(enclave()) == signing.address_of(KEY)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (enclave(root="00" * 32), "do not lead to the key"),
        (enclave(code=bytes(48)), "runs code with measurement"),
        (enclave(LEAF, ROOT), "not issued by the next"),
        (enclave(BETWEEN, ROOT), "carries no measurement"),
        (enclave(LEAF, BETWEEN), "not issued by the next"),
        (enclave("AAAA", ROOT), "cannot be read"),
        (enclave(MACHINE.certify("auditor", OWN, measured=CODE), BETWEEN, ROOT), "no octet string"),
        (
            enclave(MACHINE.certify("auditor", MACHINE.key.public_key(), measured=b"\x04\x30" + CODE), BETWEEN, ROOT),
            "secp256k1",
        ),
        (enclave(LEAF, MAKER.certify("machine", MACHINE.key.public_key()), ROOT), "may not issue others"),
        (
            enclave(
                Authority("machine", MAKER.key).certify("auditor", OWN, measured=b"\x04\x30" + CODE), BETWEEN, ROOT
            ),
            "not issued by the next",
        ),
    ],
)
def test_certificates_that_show_something_else_are_refused(spec: EnclaveSpec, why: str):
    with pytest.raises(AttestationInvalid, match=why):
        attested(spec)


def test_a_task_whose_enclave_attests_another_key_than_the_auditors_is_refused():
    def task(auditor: str, spec: EnclaveSpec) -> Task:
        said = {"auditor": auditor, "appealWindow": "1h", "enclave": spec.wire()}
        return Task.of(published(terms(incentives=said), auditor=auditor, appeal_window=3600), participants(), DOMAIN)

    own, other = signing.address_of(KEY), signing.address_of(b"\x08" * 32)
    assert task(own, enclave()).has_evidence
    with pytest.raises(TaskFailed, match="certificates are of the key of"):
        task(other, enclave())
    with pytest.raises(TaskFailed, match="measurement"):
        task(own, enclave(code=bytes(48)))
