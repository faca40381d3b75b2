"""A case of evidence: which records are asked for, what the models lose on them, and the bytes that carry it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.holdout import Commitment, Opening, OpeningInvalid, check, draw
from covey_validator.incentives.terms import Rule
from covey_validator.scoring import weighted_median, weighted_quantile

_NUMBERS = struct.Struct(">qqq")  # of an epoch: loss, own, others


class EvidenceInvalid(ValueError):
    """Records or findings that are not those that were asked for; says what is wrong."""


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
