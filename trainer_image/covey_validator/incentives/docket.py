"""What the chain says about appeals, up to a block: the same at every site, and to whoever looks afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from covey_validator.incentives.cases import Case
from covey_validator.incentives.holdout import Commitment


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
        findings: what `cases.pack` makes; not looked at by the contract.
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
        findings: what `cases.pack` makes.
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
        depositions: likewise.
    """

    height: int = 0
    commitments: Mapping[str, Commitment] = field(default_factory=dict)
    filed: Mapping[str, Filed] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    depositions: tuple[Deposition, ...] = ()

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
            depositions=tuple(each for each in self.depositions if each.block <= height),
        )

    def case(self, task_id: bytes, member: str, round_number: int) -> Case | None:
        """What an auditor is asked about a member; None if it has not committed to records, or not appealed."""
        if member not in self.commitments or member not in self.filed:
            return None
        return Case(task_id, member, round_number, self.commitments[member], self.filed[member].beacon)
