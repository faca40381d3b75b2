"""One member's account under the rule: the ladder of penalties, what is held, and the class that it is in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from covey_validator.incentives.appeal import Appeal, Stage
from covey_validator.incentives.evidence import Claim, Finding, Outcome, weigh
from covey_validator.incentives.helping import Helped
from covey_validator.incentives.terms import PPM, Rule


class Standing(StrEnum):
    """What an epoch says about a member."""

    GOOD = "Good"
    DIVERGENT = "Divergent"
    DEGRADING = "Degrading"
    ABSENT = "Absent"


class Cause(StrEnum):
    """Why."""

    HELPS = "helps"
    HELPS_LITTLE = "helps little"
    OPPOSES = "opposes"
    HARMS = "harms"
    COPIES = "copies"
    ABSENT = "absent"


@dataclass(frozen=True)
class Account:
    """Everything that the rule remembers of a member; amounts in base units.

    Attributes:
        stake: snapshotted at the start.
        epochs: what the judges saw, from epoch 1; None where it had no update.
        opposing: whether all epochs so far in which the model moved left it pulling against the others; None before.
        steps: of the ladder, 0 to `Rule.steps`.
        held: provisional penalties.
        burnt: final ones.
        removed: epoch in which it was removed for quality, or None.
        appeal: see there.
        findings: evidence so far.
        claim: what it comes to.
    """

    stake: int
    epochs: tuple[Helped | None, ...] = ()
    opposing: bool | None = None
    steps: int = 0
    held: int = 0
    burnt: int = 0
    removed: int | None = None
    appeal: Appeal = field(default_factory=Appeal)
    findings: tuple[Finding, ...] = ()
    claim: Claim = field(default_factory=Claim)

    @property
    def outcome(self) -> Outcome:
        """What the evidence has come to; nothing unless the appeal was upheld."""
        return self.claim.outcome if self.appeal.stage is Stage.UPHELD else Outcome.NOTHING

    def ratio_ppm(self, rule: Rule) -> int:
        """Lifetime help ratio: help over all epochs, of what a typical site did in as many rounds."""
        seen = [epoch for epoch in self.epochs if epoch is not None]
        slack = rule.slack_ppm * sum(epoch.loss for epoch in seen)
        typical = PPM * sum(epoch.yardstick for epoch in seen) + slack
        return PPM * (PPM * sum(epoch.help for epoch in seen) + slack) // typical if typical > 0 else PPM

    def seen(self, rule: Rule, helped: Helped | None, alignment_ppm: int | None) -> Account:
        """Take in an epoch, before it is judged."""
        opposing = self.opposing
        if alignment_ppm is not None:
            opposing = opposing is not False and alignment_ppm < rule.opposed_ppm
        return replace(self, epochs=(*self.epochs, helped), opposing=opposing)

    def judged(self, rule: Rule) -> tuple[Standing, Cause]:
        """Class of the newest epoch, before any evidence."""
        newest = self.epochs[-1] if self.epochs else None
        if newest is None:
            return Standing.ABSENT, Cause.ABSENT
        if newest.is_copying:
            return Standing.DEGRADING, Cause.COPIES
        if self.ratio_ppm(rule) < rule.degrading_below_ppm:
            return Standing.DEGRADING, Cause.HELPS_LITTLE
        if self.opposing:
            return Standing.DEGRADING, Cause.OPPOSES
        if self.ratio_ppm(rule) < rule.divergent_below_ppm:
            return Standing.DIVERGENT, Cause.HELPS_LITTLE
        if newest.help * PPM < -rule.harm_ppm * newest.loss:
            return Standing.DIVERGENT, Cause.HARMS
        return Standing.GOOD, Cause.HELPS

    def after(self, rule: Rule, standing: Standing, shadow: bool, epoch: int) -> Account:
        """Account after an epoch whose class, evidence included, is this; held grows, shrinks, or stays."""
        if standing is Standing.ABSENT or shadow:
            return self
        pay = 0
        is_proven = self.outcome is Outcome.PROVEN
        if standing is not Standing.GOOD and not is_proven:
            steps = self.steps if standing is Standing.DEGRADING else 0
            pay = min(self.stake * rule.penalty_ppm(steps) // PPM, self.stake - self.held - self.burnt)
        kept = self.held if standing is not Standing.GOOD or is_proven else self.held // 2
        climbs = standing is Standing.DEGRADING and not is_proven
        steps = self.steps + 1 if climbs else max(0, self.steps - 1)
        removed = epoch if steps >= rule.steps else self.removed
        return replace(self, held=kept + pay, steps=steps, removed=removed)

    def with_findings(self, rule: Rule, findings: tuple[Finding, ...]) -> Account:
        """Weigh all evidence anew."""
        return replace(self, findings=findings, claim=weigh(rule, findings, self.epochs))

    def burn(self) -> Account:
        """Make what is held final."""
        return replace(self, held=0, burnt=self.burnt + self.held)
