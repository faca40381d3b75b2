"""Every penalty and every reward in words."""

from __future__ import annotations

from covey_validator.incentives.appeal import Stage
from covey_validator.incentives.evidence import Outcome
from covey_validator.incentives.members import Account, Cause, Standing
from covey_validator.incentives.terms import NO_APPEALS, NO_DEADLINE, PPB, PPM, Rule


def of_epoch(rule: Rule, epoch: int, before: Account, after: Account, standing: Standing, cause: Cause) -> str:
    """What an epoch meant for a member, and what it can do."""
    if standing is Standing.ABSENT:
        return f"nothing changed: in epoch {epoch} this site had no update that counted"
    why = f"in epoch {epoch} {_why(rule, after, cause)}"
    amount = after.held - before.held
    if epoch <= rule.shadow_epochs:
        named = {Standing.GOOD: "nothing", Standing.DIVERGENT: "the first step"}.get(standing, "a step of the ladder")
        return f"nothing is held before epoch {rule.shadow_epochs + 1}; it would have been {named}: {why}"
    if after.removed is not None:
        return f"removed, and {_share(after.held, after)} of stake is held: {why}; {_remedy(rule, after)}"
    if amount > 0:
        return f"held {_share(amount, after)} of stake: {why}; {_remedy(rule, after)}"
    if amount < 0:
        return f"returned {_share(-amount, after)} of stake: {why}"
    if after.outcome is Outcome.PROVEN:
        return f"nothing held: {why}, and its records prove that it alone serves them"
    return f"nothing held: {why}"


def of_settlement(account: Account, influence_ppb: int, unique_ppb: int, slashed: int, pending: int) -> str:
    """What a task came to."""
    if pending:
        if account.appeal.until is not None and account.appeal.until > NO_DEADLINE:
            return f"{_share(pending, account)} of stake stays held: appeal on chain, or it is kept; an auditor decides"
        decided = f"until round {account.appeal.until}" if account.appeal.until is not None else "soon"
        return f"{_share(pending, account)} of stake stays held: an appeal is open or may be filed {decided}"
    if account.removed is not None:
        lost = _share(account.burnt + slashed, account)
        return f"no reward: removed in epoch {account.removed}; {lost} of stake slashed"
    paid = f"paid for {percent(influence_ppb, PPB)} of the final direction"
    if account.outcome is Outcome.PROVEN:
        paid += f" and for the {percent(unique_ppb, PPB)} that nobody else supplied"
    if account.held == 0:
        return f"{paid}; nothing was held"
    back = account.held - slashed
    if account.appeal.stage is Stage.UNANSWERED:
        return f"{paid}; {_share(back, account)} of stake returned, the evidence did not answer in time"
    if account.outcome is Outcome.NOTHING and not slashed:
        return f"{paid}; {_share(back, account)} of stake returned: it helped in another way, and did not degrade"
    if account.outcome is Outcome.NOTHING:
        return (
            f"{paid}; {_share(slashed, account)} of stake slashed, what was held and not appealed against with success"
        )
    return f"{paid}; {_share(back, account)} of stake returned, {_share(slashed, account)} kept for the audit"


def _why(rule: Rule, account: Account, cause: Cause) -> str:
    ratio = account.ratio_ppm(rule)
    helped = f"this site helped the median holdout {_times(ratio)} times as much as a typical site"
    limit = rule.degrading_below_ppm if ratio < rule.degrading_below_ppm else rule.divergent_below_ppm
    return {
        Cause.COPIES: "more than half of this site's updates repeated what others had made public",
        Cause.HELPS_LITTLE: f"{helped}, limit {_times(limit)}",
        Cause.OPPOSES: "this site's updates together pull against most others', as after every epoch before",
        Cause.HARMS: f"this site raised the median holdout loss by more than {percent(rule.harm_ppm, PPM)}",
        Cause.HELPS: helped,
    }[cause]


def _remedy(rule: Rule, account: Account) -> str:
    if rule.appeal_rounds == NO_APPEALS:
        kept = "kept" if account.steps else "returned"
        return f"half of it comes back with every epoch in which it helps, what is left is {kept} at settlement"
    match account.appeal.stage:
        case Stage.NONE if account.steps and rule.appeal_rounds == NO_DEADLINE:
            return "what is left at the end is kept unless this site appeals and the auditor finds its records real"
        case Stage.NONE if account.steps:
            return f"appeal until round {account.appeal.until}, or it is kept at settlement"
        case Stage.NONE:
            return "what is left is returned at settlement unless it degrades the model until then"
        case Stage.OPEN:
            return "nothing is burnt while the appeal is open"
        case Stage.UPHELD if account.outcome is Outcome.NOTHING:
            return "no verdict so far shows that its updates serve its records by more than they cost the others"
        case Stage.UPHELD:
            return "it is returned at settlement, less the audit's fee"
        case Stage.UNANSWERED:
            return "it is returned at settlement, the evidence did not answer in time"
        case Stage.REJECTED:
            return "the appeal was rejected, so it is kept at settlement"


def _share(amount: int, account: Account) -> str:
    return percent(amount, account.stake)


def percent(part: int, whole: int) -> str:
    """A share with one decimal, rounded to the nearest, halves up; in integers, so all sites write the same words."""
    tenths = (2000 * part + whole) // (2 * whole)
    return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10} %"


def _times(ppm: int) -> str:
    tenths = (2 * ppm + PPM // 10) // (2 * PPM // 10)
    return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10}"
