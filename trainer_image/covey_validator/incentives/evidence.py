"""What records that are known to be real tell about a member: cleared, or a proven minority.

Two questions, both answered by sums over epochs. Cleared: does it help its own records by more than it costs the
others? Then it is no degrader, and cannot be removed for quality. Proven minority: are its records badly served by the
model, and does this site alone repair that, by more than it costs the others? Then it is paid for its unique part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from covey_validator.incentives.helping import Helped
from covey_validator.incentives.terms import PPM, Rule

_COPYING_EPOCHS = 2


@dataclass(frozen=True)
class Finding:
    """What a back end vouches for: one member's records in one epoch.

    Attributes:
        epoch: from 1.
        authentic: whether the records are real.
        loss: nano-loss of the records before each round of the epoch that the member attended, summed.
        own: nano-loss that the member's updates saved on them.
        others: what the 70 % quantile of the other members saved on them.
    """

    epoch: int
    authentic: bool
    loss: int
    own: int
    others: int


class Outcome(StrEnum):
    """What the evidence has come to."""

    NOTHING = "nothing"
    CLEARED = "cleared"
    PROVEN = "proven"


@dataclass(frozen=True)
class Claim:
    """Running sums of a member's evidence, in nano-loss times a million.

    Attributes:
        own: its gain on its records beyond the least and beyond the harm it did.
        alone: the same beyond the others' gain, each weighed by the rule; starts anew while unproven.
        proven: whether it is a proven minority.
    """

    own: int = 0
    alone: int = 0
    proven: bool = False

    @property
    def outcome(self) -> Outcome:
        """Proven before cleared before nothing."""
        if self.proven:
            return Outcome.PROVEN
        return Outcome.CLEARED if self.own > 0 else Outcome.NOTHING

    def after(self, rule: Rule, finding: Finding, helped: Helped) -> Claim:
        """Take in one more epoch."""
        harm = max(0, -helped.help)
        least = finding.own * PPM - rule.evidence_gain_ppm * finding.loss
        cost = rule.evidence_keep_ppm if self.proven else rule.evidence_cost_ppm
        alone = (self.alone if self.proven else 0) + least - cost * (max(0, finding.others) + harm)
        is_underserved = self.proven or finding.loss * PPM > rule.underserved_ppm * helped.loss
        is_proven = is_underserved and alone > 0 and not helped.is_copying
        return Claim(self.own + least - harm * PPM, alone, is_proven)


def weigh(rule: Rule, findings: Sequence[Finding], epochs: Sequence[Helped | None]) -> Claim:
    """All evidence of a member so far.

    Args:
        rule: parameters.
        findings: in any order; of one epoch only the first counts. One that is not authentic ends the claim, and so do
            two epochs of copies: real records excuse unusual updates, not other members' updates. In epochs without
            one the member has gained nothing, and done the harm that it did.
        epochs: what the judges saw, from epoch 1; None for an epoch without an update.
    """
    claim = Claim()
    copying = sum(seen is not None and seen.is_copying for seen in epochs)
    if copying >= _COPYING_EPOCHS or not all(finding.authentic for finding in findings):
        return claim
    by_epoch: dict[int, Finding] = {}
    for finding in findings:
        by_epoch.setdefault(finding.epoch, finding)
    for epoch, seen in enumerate(epochs, start=1):
        if seen is not None:
            claim = claim.after(rule, by_epoch.get(epoch, Finding(epoch, True, 0, 0, 0)), seen)
    return claim
