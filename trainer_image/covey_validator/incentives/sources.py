"""Where evidence comes from: an auditor who saw the records, an enclave in its place, or a Planner's audit set.

They are one interface: a case goes in, findings come out, or `EvidenceInvalid`. Everybody can check signatures, Merkle
roots, scores and certificates; that records are real is the word of the auditor, of the enclave's code, or of the Planner.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from covey_chain.signing import Domain, SignatureInvalid, recover, sign
from covey_chain.types import AuditVerdict
from eth_utils import keccak

from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.holdout import Commitment, Opening, OpeningInvalid, check, draw
from covey_validator.incentives.terms import Rule
from covey_validator.scoring import weighted_median, weighted_quantile

_NUMBERS = struct.Struct(">qqq")  # of an epoch: loss, own, others


class EvidenceInvalid(ValueError):
    """Evidence that its signatures, hashes or scores do not bear out; says what is wrong."""


@dataclass(frozen=True)
class Case:
    """What is asked.

    Attributes:
        task_id: 32 bytes.
        member: whose appeal it is.
        round: last round that the evidence covers.
        commitment: what the member committed to when it joined.
        beacon: public randomness of the round after the appeal, 32 bytes.
    """

    task_id: bytes
    member: str
    round: int
    commitment: Commitment
    beacon: bytes


def on_set(task_id: bytes, member: str, round_number: int, audit_set: Commitment) -> Case:
    """What is asked where a set of the Planner's stands for the member's records: nothing is drawn, all is opened."""
    return Case(task_id, member, round_number, audit_set, bytes(32))


class Source(Protocol):
    """A kind of evidence."""

    def findings(self, rule: Rule, case: Case) -> tuple[Finding, ...]:
        """One finding an epoch, from the first; raises `EvidenceInvalid`."""
        ...


@dataclass(frozen=True)
class Auditor:
    """An auditor of the consortium's choice saw the drawn records, and signed what it found.

    Attributes:
        domain: EIP-712 domain.
        address: the auditor's.
        found: the findings that the verdict is about.
        signature: 65 bytes.
    """

    domain: Domain
    address: str
    found: tuple[Finding, ...]
    signature: bytes

    @classmethod
    def signed(cls, domain: Domain, case: Case, found: tuple[Finding, ...], key: bytes) -> Auditor:
        """The auditor's side: sign findings on records that `drawn_records` has let through."""
        verdict = _verdict(case, found)
        signature = sign(domain, verdict, key)
        return cls(domain, recover(domain, verdict, signature), found, signature)

    def findings(self, rule: Rule, case: Case) -> tuple[Finding, ...]:
        """See `Source`."""
        try:
            signer = recover(self.domain, _verdict(case, self.found), self.signature)
        except SignatureInvalid as error:
            raise EvidenceInvalid(f"the verdict on {case.member}: {error}") from error
        if signer != self.address:
            raise EvidenceInvalid(f"the verdict on {case.member} is signed by {signer}, the auditor is {self.address}")
        if [finding.epoch for finding in self.found] != list(range(1, case.round // rule.epoch_rounds + 1)):
            raise EvidenceInvalid(f"the verdict must cover every epoch until round {case.round}, once and in order")
        return self.found


def drawn_records(rule: Rule, case: Case, openings: Sequence[Opening]) -> list[bytes]:
    """What the auditor gets to see: the records that the beacon drew, held to the commitment.

    Raises:
        EvidenceInvalid: others were opened.
    """
    drawn = draw(case.beacon, case.member, case.commitment, rule.evidence_records)
    try:
        return check(openings, drawn, case.commitment)
    except OpeningInvalid as error:
        raise EvidenceInvalid(str(error)) from error


@dataclass(frozen=True)
class AuditSet:
    """Records that the Planner committed to at publication, opened whole; validators score them like their holdouts.

    The losses are then medians of certified scores, and the Planner's word that the records are real was given before
    anybody trained.

    Attributes:
        commitment: of the task's terms.
        openings: of every record.
        rounds: scores on the set, from round 1, agreed by certificate like those of the holdouts.
        stakes: judge -> stake.
    """

    commitment: Commitment
    openings: tuple[Opening, ...]
    rounds: tuple[RoundFacts, ...]
    stakes: Mapping[str, int]

    def findings(self, rule: Rule, case: Case) -> tuple[Finding, ...]:
        """See `Source`."""
        try:
            check(self.openings, range(self.commitment.records), self.commitment)
        except OpeningInvalid as error:
            raise EvidenceInvalid(f"the audit set: {error}") from error
        if len(self.rounds) < case.round:
            raise EvidenceInvalid(f"the audit set is scored until round {len(self.rounds)}, not {case.round}")
        size = rule.epoch_rounds
        return tuple(
            found_in(rule, epoch + 1, case.member, self.rounds[epoch * size : (epoch + 1) * size], self.stakes)
            for epoch in range(case.round // size)
        )


def found_in(rule: Rule, epoch: int, member: str, rounds: Sequence[RoundFacts], stakes: Mapping[str, int]) -> Finding:
    """A finding from losses on the records; an auditor is the only judge of its scores.

    Args:
        rule: parameters.
        epoch: from 1.
        member: whose appeal it is.
        rounds: the epoch's, with scores on the records.
        stakes: judge -> weight; the member itself has none.
    """
    loss, gains = 0, dict[str, int]()
    for each in rounds:
        if member not in each.included:
            continue
        judged = [(scores, stakes.get(judge, 0)) for judge, scores in each.scores.items() if judge != member]
        base = abs(weighted_median((scores.base, weight) for scores, weight in judged) or 0)
        loss += base
        for site in each.included:
            saved = weighted_median((scores.without[site] - scores.candidate, weight) for scores, weight in judged) or 0
            gains[site] = gains.get(site, 0) + max(-base, min(base, saved))
    others = weighted_quantile(((gain, 1) for site, gain in gains.items() if site != member), rule.yardstick_quantile)
    return Finding(epoch, True, loss, gains.get(member, 0), others or 0)


def _verdict(case: Case, found: Sequence[Finding]) -> AuditVerdict:
    authentic = all(finding.authentic for finding in found)
    return AuditVerdict(case.task_id, case.member, len(found), authentic, keccak(pack(case, found)))


def pack(case: Case, found: Sequence[Finding]) -> bytes:
    """What a verdict is about: the drawn records, by commitment and beacon, and the numbers of every epoch from 1."""
    return case.commitment.root + case.beacon + b"".join(_NUMBERS.pack(f.loss, f.own, f.others) for f in found)


def unpack(case: Case, epoch: int, data: bytes) -> tuple[Finding, ...]:
    """Read what `pack` wrote, of records that a verdict calls real.

    Raises:
        EvidenceInvalid: findings on other records than those drawn, or of more or fewer epochs.
    """
    about, numbers = case.commitment.root + case.beacon, data[64:]
    if data[:64] != about:
        raise EvidenceInvalid(f"findings on other records than those that were drawn for {case.member}")
    if len(numbers) != _NUMBERS.size * epoch:
        raise EvidenceInvalid(f"findings of {epoch} epochs have {64 + _NUMBERS.size * epoch} bytes, not {len(data)}")
    return tuple(Finding(number, True, *of) for number, of in enumerate(_NUMBERS.iter_unpack(numbers), start=1))
