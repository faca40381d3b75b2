"""The numbers of the incentive rule.

Losses are whole billionths (nano-loss), ratios and shares of stake whole millionths (ppm), influence whole billionths
(ppb), money the token's base units. Divisions round down. So every site computes the same, and so could a contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from covey_api.incentives import PENALTY_STEPS

PPM = 10**6
PPB = 10**9
NO_APPEALS = -1  # `Rule.appeal_rounds` of a consortium without evidence
NO_DEADLINE = 2**31  # where an auditor decides, until some time after the last round


@dataclass(frozen=True)
class Rule:
    """Parameters; `docs/explanation/incentives.md` says why each has its value.

    Attributes:
        epoch_rounds: rounds after which members are judged.
        degrading_below_ppm: of the typical site's help, over all epochs; who is below takes a step of the ladder.
        divergent_below_ppm: of the same; who is below puts the first step's amount on hold.
        harm_ppm: of the epoch's loss; who does more harm is divergent, too.
        opposed_ppm: cosine of a site's movement with that of others (`help_quantile` of them by stake) below which it
            pulls against them; who has never done anything else is degrading.
        slack_ppm: of all epochs' loss; added to help and yardstick, so that noise decides nothing when nobody helps.
        help_quantile: weight of judges that must see harm before it counts.
        yardstick_quantile: of the sites' help; what a typical site does.
        first_penalty_ppm: of the stake; each further step in a row costs `growth` times as much.
        growth: see there.
        steps: the step with which a site is removed.
        copy_ppm: cosine above which an update repeats what others made public.
        evidence_records: of a member's holdout that a beacon draws.
        underserved_ppm: loss on a claimant's records, of the others' on theirs, from which they are badly served.
        evidence_gain_ppm: of the loss on the records; repair below it is none.
        evidence_cost_ppm: of the others' gain on its records and of its harm; what a claimant's gain in one epoch must
            exceed to be proven.
        evidence_keep_ppm: of the same; what its gain since then must exceed to stay so.
        proven_clip: median norms to which a proven minority's update is clipped; 1 for all others.
        reward_limit_ppm: of an equal share; the most that one site earns.
        audit_fee_ppm: of the stake; kept from what a successful appeal gives back.
        shadow_epochs: first epochs in which penalties are computed and shown, but nothing is held.
        appeal_rounds: rounds after a penalty in which it can be appealed against; `NO_APPEALS` for never,
            `NO_DEADLINE` for any time.
        answer_rounds: rounds for the member to open its records, and for the evidence to be judged; or `NO_DEADLINE`.
    """

    epoch_rounds: int = 5
    degrading_below_ppm: int = 200_000
    divergent_below_ppm: int = 600_000
    harm_ppm: int = 10_000
    opposed_ppm: int = -50_000
    slack_ppm: int = 200
    help_quantile: Fraction = Fraction(3, 5)
    yardstick_quantile: Fraction = Fraction(7, 10)
    first_penalty_ppm: int = 5_000
    growth: int = 2
    steps: int = PENALTY_STEPS
    copy_ppm: int = 800_000
    evidence_records: int = 32
    underserved_ppm: int = 1_500_000
    evidence_gain_ppm: int = 2_000
    evidence_cost_ppm: int = 1_500_000
    evidence_keep_ppm: int = 1_000_000
    proven_clip: int = 3
    reward_limit_ppm: int = 2_500_000
    audit_fee_ppm: int = 5_000
    shadow_epochs: int = 0
    appeal_rounds: int = 15
    answer_rounds: int = 10

    def penalty_ppm(self, steps_before: int) -> int:
        """What the next step costs, in ppm of the stake."""
        return self.first_penalty_ppm * int(self.growth**steps_before)

    @property
    def removal_ppm(self) -> int:
        """What all steps together cost, in ppm of the stake: 31.5 % as the parameters stand."""
        return sum(self.penalty_ppm(step) for step in range(self.steps))
