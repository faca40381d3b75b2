"""The rule as a pure machine: an epoch's certified facts in, penalties with their reasons out; and the settlement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from covey_validator.incentives import appeal as appeals
from covey_validator.incentives import reasons
from covey_validator.incentives.appeal import Stage
from covey_validator.incentives.evidence import Finding, Outcome
from covey_validator.incentives.geometry import Gram
from covey_validator.incentives.helping import RoundFacts, helped
from covey_validator.incentives.members import Account, Cause, Standing
from covey_validator.incentives.terms import PPM, Rule


@dataclass(frozen=True)
class State:
    """What every site remembers from epoch to epoch.

    Attributes:
        rule: parameters.
        accounts: member -> its account.
        epoch: closed so far.
    """

    rule: Rule
    accounts: Mapping[str, Account]
    epoch: int = 0

    @classmethod
    def start(cls, rule: Rule, stakes: Mapping[str, int]) -> State:
        """Before the first round."""
        return cls(rule, {site: Account(stake) for site, stake in sorted(stakes.items())})

    @property
    def active(self) -> dict[str, int]:
        """Members that are not removed -> stake: they send updates, and judge."""
        return {site: account.stake for site, account in self.accounts.items() if account.removed is None}

    @property
    def clips(self) -> dict[str, int]:
        """Proven minorities -> median norms to which their updates are clipped; 1 for all that are not named."""
        proven = (s for s, account in self.accounts.items() if account.outcome is Outcome.PROVEN)
        return dict.fromkeys(proven, self.rule.proven_clip)

    def with_appeal(self, site: str, event: appeals.Event) -> State:
        """Feed one member's appeal; raises `AppealError`, or `KeyError` for a stranger."""
        account = self.accounts[site]
        changed = replace(account, appeal=appeals.step(self.rule, account.appeal, event))
        return replace(self, accounts={**self.accounts, site: changed})

    def with_findings(self, site: str, findings: Sequence[Finding]) -> State:
        """Take in what a source of evidence found about an open or upheld appeal, all epochs so far (`sources`)."""
        state = self
        if self.accounts[site].appeal.stage is Stage.OPEN and findings:
            state = self.with_appeal(site, appeals.Ruled(all(finding.authentic for finding in findings)))
        if state.accounts[site].appeal.stage is not Stage.UPHELD:
            return state
        account = state.accounts[site].with_findings(self.rule, tuple(findings))
        return replace(state, accounts={**state.accounts, site: account})


@dataclass(frozen=True)
class Decision:
    """What an epoch meant for one member; amounts in base units.

    Attributes:
        standing: its class.
        cause: why.
        ratio_ppm: lifetime help ratio.
        taken: newly held.
        returned: no longer held.
        removed: whether it was removed in this epoch.
        reason: the same in words.
    """

    standing: Standing
    cause: Cause
    ratio_ppm: int
    taken: int
    returned: int
    removed: bool
    reason: str


def close_epoch(
    state: State,
    rounds: Sequence[RoundFacts],
    gram: Gram,
    findings: Mapping[str, Sequence[Finding]],
) -> tuple[State, dict[str, Decision]]:
    """Judge an epoch.

    Args:
        state: after the epoch before.
        rounds: certified facts of its rounds, `rule.epoch_rounds` of them.
        gram: inner products of all that the sites have made of the model since the task began (`Movement.gram`).
        findings: member -> evidence of all epochs, this one included, where an appeal has any.

    Returns:
        The state from which the next round starts, and a decision for each member that was active.
    """
    rule, epoch = state.rule, state.epoch + 1
    active = state.active
    seen = helped(rule, rounds, active)
    alignment = gram.alignment(active, rule.help_quantile)
    state = replace(
        state,
        epoch=epoch,
        accounts={
            site: account.seen(rule, seen.get(site), alignment.get(site) if site in active else None)
            for site, account in state.accounts.items()
        },
    )
    for site, account in state.accounts.items():
        state = state.with_findings(site, findings.get(site, ()) or account.findings)
    accounts, decisions = dict(state.accounts), {}
    for site in active:
        accounts[site], decisions[site] = _close(rule, accounts[site], epoch)
    return replace(state, accounts=accounts), decisions


def _close(rule: Rule, account: Account, epoch: int) -> tuple[Account, Decision]:
    last_round = epoch * rule.epoch_rounds
    shadow = epoch <= rule.shadow_epochs
    standing, cause = account.judged(rule)
    if standing is Standing.DEGRADING and cause is not Cause.COPIES and account.outcome is not Outcome.NOTHING:
        standing = Standing.DIVERGENT
    after = account.after(rule, standing, shadow, epoch)
    if after.held > account.held:
        after = replace(after, appeal=appeals.step(rule, after.appeal, appeals.Flagged(last_round)))
    decision = Decision(
        standing,
        cause,
        account.ratio_ppm(rule),
        max(0, after.held - account.held),
        max(0, account.held - after.held),
        after.removed is not None,
        reasons.of_epoch(rule, epoch, account, after, standing, cause),
    )
    return after, decision


def after_round(state: State, round_number: int) -> State:
    """Let appeals run out, and burn what removed members have held once nothing protects it any more."""
    accounts = {}
    for site, account in state.accounts.items():
        moved = replace(account, appeal=appeals.step(state.rule, account.appeal, appeals.Elapsed(round_number)))
        if moved.removed is not None and not moved.appeal.protects(round_number):
            moved = moved.burn() if moved.outcome is Outcome.NOTHING else replace(moved, removed=None, steps=0)
        accounts[site] = moved
    return replace(state, accounts=accounts)


@dataclass(frozen=True)
class Settled:
    """What a task comes to for one member, in base units.

    Attributes:
        reward: of the bounty.
        refunded: of what was held.
        slashed: of the stake, for good.
        pending: still held, because an appeal is open or may be filed.
        influence_ppb: its part of the final direction.
        unique_ppb: what only it supplied; counts for a proven minority.
        reason: in words.
    """

    reward: int
    refunded: int
    slashed: int
    pending: int
    influence_ppb: int
    unique_ppb: int
    reason: str

    @property
    def net(self) -> int:
        """Reward less slashes."""
        return self.reward - self.slashed


def settle(state: State, gram: Gram, bounty: int, round_number: int) -> dict[str, Settled]:
    """Pay for influence on the final direction, and make final what was held for degrading and no appeal protects.

    Args:
        state: after the last round.
        gram: inner products of what the sites made of the model (`Movement.gram`); a site without one earns nothing.
        bounty: base units; what rounding and limits leave is the Planner's.
        round_number: how far time has gone; appeals that nobody has decided run out after the last round, too.
    """
    rule = state.rule
    kept = gram.of(frozenset(state.active))
    influence, unique = kept.influence(), kept.unique()
    weights = {
        site: max(0, influence[site]) + (unique[site] if state.accounts[site].outcome is Outcome.PROVEN else 0)
        for site in kept.sites
    }
    limit = bounty * rule.reward_limit_ppm // (PPM * max(1, len(kept.sites)))
    rewards = split(bounty, weights, limit)
    settled = {}
    for site, account in state.accounts.items():
        pending, slashed = 0, account.held
        if account.outcome is not Outcome.NOTHING:
            slashed = min(account.held, account.stake * rule.audit_fee_ppm // PPM)
        elif account.appeal.stage is Stage.UNANSWERED:
            slashed = 0
        elif account.steps == 0 and account.removed is None and account.appeal.stage is not Stage.OPEN:
            slashed = 0  # other than the others, which an honest minority is, too; nothing says that it degrades
        elif account.appeal.protects(round_number):
            pending, slashed = account.held, 0
        settled[site] = Settled(
            rewards.get(site, 0),
            account.held - slashed - pending,
            account.burnt + slashed,
            pending,
            influence.get(site, 0),
            unique.get(site, 0),
            reasons.of_settlement(account, influence.get(site, 0), unique.get(site, 0), slashed, pending),
        )
    return settled


def split(pool: int, weights: Mapping[str, int], limit: int) -> dict[str, int]:
    """Divide a pool in proportion to weights, nobody more than the limit; what is over goes to the others."""
    full: set[str] = set()
    while True:
        rest = pool - limit * len(full)
        free = {site: weight for site, weight in weights.items() if site not in full}
        total = sum(free.values())
        over = {site for site, weight in free.items() if rest * weight > limit * total}
        if not over:
            return {site: limit if site in full else rest * weights[site] // max(1, total) for site in weights}
        full |= over
