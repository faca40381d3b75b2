"""Where evidence comes from: an auditor, an enclave in its place, or the members' figures on a Planner's audit sets.

They are one interface: the docket goes in, findings come out. That records are real is the word of the auditor, of the
enclave's code, whose key `attestation` has checked, or of the Planner; all else follows from what the chain says.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from covey_validator.incentives.cases import EvidenceInvalid, on_set, unpack
from covey_validator.incentives.docket import Docket, Verdict
from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.holdout import Commitment
from covey_validator.scoring import weighted_median

_MEASURED = ("loss", "own", "others")


class Source(Protocol):
    """A kind of evidence."""

    def heard(self, docket: Docket, epoch: int, stakes: Mapping[str, int]) -> dict[str, tuple[Finding, ...]]:
        """Who has a case -> what is found of epochs up to one that is over; nothing while the evidence is silent.

        Args:
            docket: what the chain says.
            epoch: the newest that is over; what is said about later ones does not count yet.
            stakes: members that are not removed -> stake.
        """
        ...


@dataclass(frozen=True)
class Auditor:
    """Its newest verdict on each appeal counts; the contract has checked that the signature is its own.

    A verdict counts that says "not real", or whose figures are of the records that were drawn from those that the
    member had committed to.
    """

    def heard(self, docket: Docket, epoch: int, stakes: Mapping[str, int]) -> dict[str, tuple[Finding, ...]]:
        """See `Source`."""
        found: dict[str, tuple[Finding, ...]] = dict.fromkeys(docket.filed, ())
        for verdict in docket.verdicts:
            if verdict.member in docket.filed and verdict.epoch <= epoch:
                found[verdict.member] = self._said(docket, verdict) or found[verdict.member]
        return found

    @staticmethod
    def _said(docket: Docket, verdict: Verdict) -> tuple[Finding, ...]:
        if not verdict.authentic:
            return (Finding(verdict.epoch, False, 0, 0, 0),)
        case = docket.case(bytes(32), verdict.member, 0)
        try:
            return unpack(case, verdict.epoch, verdict.findings) if case is not None else ()
        except EvidenceInvalid:
            return ()


@dataclass(frozen=True)
class AuditSets:
    """What more than half of the others' stake has measured counts: medians by stake, of the set that suits a member.

    Attributes:
        sets: to which the Planner has committed with the task.
    """

    sets: tuple[Commitment, ...]

    def heard(self, docket: Docket, epoch: int, stakes: Mapping[str, int]) -> dict[str, tuple[Finding, ...]]:
        """See `Source`; nobody has to appeal."""
        found = {}
        for member in sorted({each.member for each in docket.depositions}):
            medians = [self._medians(docket, epoch, member, each, stakes) for each in self.sets]
            spoken = [each for each in medians if each]
            if spoken:
                found[member] = max(spoken, key=lambda each: sum(f.own - max(0, f.others) for f in each))
        return found

    @staticmethod
    def _medians(
        docket: Docket, epoch: int, member: str, audit_set: Commitment, stakes: Mapping[str, int]
    ) -> tuple[Finding, ...]:
        case, said = on_set(bytes(32), member, 0, audit_set), dict[str, tuple[Finding, ...]]()
        for each in docket.depositions:
            if each.member == member and each.judge in stakes.keys() - {member} and each.epoch <= epoch:
                with suppress(EvidenceInvalid):
                    said[each.judge] = unpack(case, each.epoch, each.findings)
        total = sum(stake for judge, stake in stakes.items() if judge != member)
        found: list[Finding] = []
        for number in range(epoch):
            votes = [(of[number], stakes[judge]) for judge, of in said.items() if number < len(of)]
            if 2 * sum(stake for _, stake in votes) <= total:
                break
            loss, own, others = (
                weighted_median((getattr(f, name), stake) for f, stake in votes) or 0 for name in _MEASURED
            )
            found.append(Finding(number + 1, True, loss, own, others))
        return tuple(found)
