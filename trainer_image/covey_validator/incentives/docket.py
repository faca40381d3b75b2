"""What the chain says about appeals, up to a block: the same at every site, and to whoever looks afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.holdout import Commitment
from covey_validator.incentives.sources import Case, EvidenceInvalid, on_set, unpack
from covey_validator.scoring import weighted_median

_MEASURED = ("loss", "own", "others")


@dataclass(frozen=True)
class Filed:
    """A member has appealed.

    Attributes:
        block: in which it did.
        beacon: that block's hash, 32 bytes; nobody knew it when the appeal was sent.
    """

    block: int
    beacon: bytes


@dataclass(frozen=True)
class Verdict:
    """The auditor's word on a member, whose signature the contract has checked.

    Attributes:
        block: in which it was posted.
        member: on whom.
        epoch: of the rule; the findings are of all epochs up to it.
        authentic: whether the records are real.
        findings: what `sources.pack` makes; not looked at by the contract.
    """

    block: int
    member: str
    epoch: int
    authentic: bool
    findings: bytes


@dataclass(frozen=True)
class Deposition:
    """What a participant says that the models lose on an audit set.

    Attributes:
        block: in which it was posted.
        judge: who says it.
        member: on whom.
        epoch: of the rule; the findings are of all epochs up to it.
        findings: what `sources.pack` makes.
    """

    block: int
    judge: str
    member: str
    epoch: int
    findings: bytes


@dataclass(frozen=True)
class Docket:
    """Appeals and verdicts of one task.

    Attributes:
        height: block up to which the chain was read.
        commitments: member -> what it has bound itself to.
        filed: member -> its appeal.
        verdicts: in the order of the chain.
        testimonies: likewise.
    """

    height: int = 0
    commitments: Mapping[str, Commitment] = field(default_factory=dict)
    filed: Mapping[str, Filed] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    testimonies: tuple[Deposition, ...] = ()

    def until(self, height: int) -> Docket:
        """The same as of an earlier block.

        Raises:
            ValueError: the chain was not read so far.
        """
        if height > self.height:
            raise ValueError(f"the chain was read until block {self.height}, not {height}")
        filed = {member: each for member, each in self.filed.items() if each.block <= height}
        return replace(
            self,
            height=height,
            filed=filed,
            verdicts=tuple(each for each in self.verdicts if each.block <= height),
            testimonies=tuple(each for each in self.testimonies if each.block <= height),
        )

    def case(self, task_id: bytes, member: str, round_number: int) -> Case | None:
        """What an auditor is asked about a member; None if it has not committed to records, or not appealed."""
        if member not in self.commitments or member not in self.filed:
            return None
        return Case(task_id, member, round_number, self.commitments[member], self.filed[member].beacon)

    def findings(self, epoch: int) -> dict[str, tuple[Finding, ...]]:
        """Member -> what the newest verdict on its appeal says, as far as it is of epochs that are over.

        A verdict counts that says "not real", or whose figures are of the records that were drawn from those that the
        member had committed to. Whoever has appealed and awaits a verdict has no findings.
        """
        found: dict[str, tuple[Finding, ...]] = dict.fromkeys(self.filed, ())
        for verdict in self.verdicts:
            if verdict.member in self.filed and verdict.epoch <= epoch:
                said = self._said(verdict)
                found[verdict.member] = said or found[verdict.member]
        return found

    def measured(
        self, epoch: int, sets: Sequence[Commitment], stakes: Mapping[str, int]
    ) -> dict[str, tuple[Finding, ...]]:
        """Member -> what more than half of the others' stake has measured; medians by stake, of the set that suits it.

        Args:
            epoch: the newest that is over; testimonies on later ones do not count yet.
            sets: audit sets of the task.
            stakes: judges -> stake.
        """
        found = {}
        for member in sorted({each.member for each in self.testimonies}):
            medians = [self._medians(epoch, member, each, stakes) for each in sets]
            spoken = [each for each in medians if each]
            if spoken:
                found[member] = max(spoken, key=lambda each: sum(f.own - max(0, f.others) for f in each))
        return found

    def _medians(
        self, epoch: int, member: str, audit_set: Commitment, stakes: Mapping[str, int]
    ) -> tuple[Finding, ...]:
        case, said = on_set(bytes(32), member, 0, audit_set), dict[str, tuple[Finding, ...]]()
        for each in self.testimonies:
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

    def _said(self, verdict: Verdict) -> tuple[Finding, ...]:
        if not verdict.authentic:
            return (Finding(verdict.epoch, False, 0, 0, 0),)
        case = self.case(bytes(32), verdict.member, 0)
        try:
            return unpack(case, verdict.epoch, verdict.findings) if case is not None else ()
        except EvidenceInvalid:
            return ()
