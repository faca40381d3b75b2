"""What comes from outside is believed only as far as it is proved: terms from the chain, results from peers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from covey_chain.types import Role, TaskStatus
from covey_exchange.codec import CodecSpec
from covey_validator.errors import TaskFailed
from covey_validator.incentives.holdout import Commitment
from covey_validator.incentives.sources import AuditSets
from covey_validator.incentives.terms import NO_DEADLINE
from covey_validator.records import CertifiedRound, RecordInvalid, Reveal
from covey_validator.round_types import Setting
from covey_validator.settings import ValidatorSettings
from covey_validator.task import Task
from validator_world import DOMAIN, KEYS, OWNERS, participants, published, record, task, terms

A, B, C = OWNERS


def test_terms_that_do_not_have_the_published_hash_are_refused():
    with pytest.raises(TaskFailed, match="hash") as failed:
        Task.of(published(spec_hash=bytes(32)), participants(), DOMAIN)
    assert failed.value.user_error


def test_terms_that_are_not_canonical_are_refused():
    with pytest.raises(TaskFailed, match="canonical"):
        Task.of(published(terms() + b" "), participants(), DOMAIN)


@pytest.mark.parametrize("roles", [Role.TRAINER, Role.VALIDATOR, Role.PLANNER])
def test_a_task_needs_trainers_and_validators(roles: Role):
    sites = [type(p)(**{**p.__dict__, "roles": roles}) for p in participants()]
    with pytest.raises(TaskFailed) as failed:
        Task.of(published(status=TaskStatus.STARTED), sites, DOMAIN)
    assert failed.value.reason == "NotEnoughMembers"


def test_an_auditor_counts_only_if_chain_and_terms_name_the_same():
    spec = terms(incentives={"auditor": C.lower(), "appealWindow": "1h"})
    assert Task.of(published(spec, auditor=C, appeal_window=3600), participants(), DOMAIN).rule.appeal_rounds > 0
    for other in ({"auditor": B, "appeal_window": 3600}, {"auditor": C, "appeal_window": 60}, {}):
        with pytest.raises(TaskFailed, match="auditor"):
            Task.of(published(spec, **other), participants(), DOMAIN)
    with pytest.raises(TaskFailed, match="auditor"):
        Task.of(published(auditor=C, appeal_window=3600), participants(), DOMAIN)


def test_an_audit_set_stands_for_an_auditor_and_not_beside_one():
    enclave = {"measurement": "0x" + "00" * 32, "rootKey": "0x" + "00" * 32, "certificates": ["AA", "AA"]}
    sets = [{"root": "0x" + "05" * 32, "records": 9}]
    found = Task.of(published(terms(incentives={"auditSets": sets})), participants(), DOMAIN)
    assert found.has_evidence
    assert found.audit_sets == (Commitment(b"\x05" * 32, 9),)
    assert found.book().evidence == AuditSets(found.audit_sets)
    assert 0 < found.rule.appeal_rounds < NO_DEADLINE
    with pytest.raises(ValueError, match="either auditor or auditSets"):
        terms(incentives={"auditSets": sets, "auditor": C})
    with pytest.raises(ValueError, match="give auditor, too"):
        terms(incentives={"enclave": enclave})


def test_a_task_survives_its_json():
    assert Task.model_validate_json(task().model_dump_json(by_alias=True)) == task()


def setting(number: int, owner: str) -> Setting:
    return task().setting(number, A, bytes(32), task().book(), KEYS[owner])


def test_the_salt_is_secret_and_the_same_after_a_restart():
    first = task().setting(1, A, bytes(32), task().book(), KEYS[A])
    assert first.salt == task().setting(1, A, bytes(32), task().book(), KEYS[A]).salt
    assert (
        len({first.salt, *(task().setting(n, A, bytes(32), task().book(), KEYS[o]).salt for n, o in [(2, A), (1, B)])})
        == 3
    )


@pytest.mark.parametrize(
    ("compression", "codec"),
    [
        ({"codec": "None"}, CodecSpec("Dense", value_bits=32)),
        ({"codec": "None", "precision": "fp16"}, CodecSpec("Dense", value_bits=16)),
        ({"codec": "None", "precision": "int8"}, CodecSpec("Dense", value_bits=8)),
        ({"density": "1/64"}, CodecSpec()),
        (
            {"codec": "DGC", "density": "0.001"},
            CodecSpec("DGC", Fraction(1, 1000), warmup_rounds=4),
        ),
        (
            {"codec": "DGC", "dgc": {"decay": "1", "momentum": "0.9", "maxNorm": "2.5", "warmupRounds": 0}},
            CodecSpec("DGC", Fraction(1, 4), decay=Fraction(1), momentum=Fraction(9, 10), max_norm=Fraction(5, 2)),
        ),
    ],
)
def test_the_codec_is_that_of_the_terms(compression: dict[str, object], codec: CodecSpec):
    terms_of_compression = {"density": "1/4"} | compression
    assert replace(task(compression=terms_of_compression).codec, density=Fraction(1, 4)) == replace(
        codec, density=Fraction(1, 4)
    )


def test_a_certified_round_proves_itself():
    found = CertifiedRound.parse(record(1, bytes(32)).to_json())
    task().signers.verify(found)
    assert found.result == record(1, bytes(32)).result


stranger = Reveal(site="0x" + "99" * 20, salt=bytes(32), scores=record(1, bytes(32)).reveals[0].scores)


def tampered(**changes: object) -> CertifiedRound:
    return record(1, bytes(32)).model_copy(update=changes)


@pytest.mark.parametrize(
    "found",
    [
        record(1, bytes(32), signers=[A, B]),
        record(1, bytes(32), signers=[]),
        tampered(model_digest=b"\x01" * 32),
        tampered(updates=b"\x01" * 52),
        tampered(scores=b"\x01" * 52),
        tampered(reveals=record(1, bytes(32)).reveals[:2]),
        tampered(reveals=[r.model_copy(update={"scores": b"\x01"}) for r in record(1, bytes(32)).reveals]),
        tampered(reveals=[*record(1, bytes(32)).reveals, stranger]),
        tampered(rewards={A: 1, B: 0, C: 0}),
        tampered(rewards={A: 0, B: 0}),
        tampered(task_id=b"\x01" * 32),
        tampered(signatures=[*record(1, bytes(32), signers=[A, B]).signatures] * 2),
        tampered(signatures=[b"\x01" * 65] * 3),
        tampered(accepted=False),
    ],
)
def test_a_round_that_is_not_proved_is_not_taken_over(found: CertifiedRound):
    with pytest.raises(RecordInvalid):
        task().signers.verify(found)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"round": 1}', b"\xff"])
def test_other_bytes_are_no_record(data: bytes):
    with pytest.raises(RecordInvalid):
        CertifiedRound.parse(data)


def test_settings_name_the_field_that_is_wrong(tmp_path: Path):
    path = tmp_path / "validator.json"
    path.write_text('{"taskId": "0x12", "taskName": "x"}')
    with pytest.raises(TaskFailed, match=r"taskId: .*; site: Field required") as failed:
        ValidatorSettings.load(path)
    assert failed.value.user_error
    with pytest.raises(TaskFailed, match="No such file"):
        ValidatorSettings.load(tmp_path / "none.json")
