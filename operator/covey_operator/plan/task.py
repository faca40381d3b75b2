"""What should be done for a FederatedTask now: publish, answer, start, run, settle, or explain why not."""

from __future__ import annotations

from datetime import timedelta

from covey_api.quantity import duration_seconds, token_units
from covey_api.status import Reason
from covey_api.subnet import Role
from covey_api.task import Decision, TaskSpec
from covey_api.terms import TaskTerms
from covey_chain.types import MAX_TASK_SECONDS
from covey_chain.types import TaskStatus as ChainStatus

from covey_operator.plan import names, policy
from covey_operator.plan.draft import TaskDraft
from covey_operator.plan.model import (
    Accept,
    Action,
    Cancel,
    ConsortiumOnChain,
    Expire,
    MakeSession,
    Own,
    Publish,
    Start,
    Task,
    TaskOnChain,
    TaskPlan,
    TaskSeen,
    Withdraw,
    role_bits,
    role_names,
)
from covey_operator.plan.network import endpoint, exchange_service
from covey_operator.plan.report import Record, Report
from covey_operator.plan.rounds import ended, plan_rounds, remove_cluster
from covey_operator.plan.settlement import end_without_last_result
from covey_operator.plan.status import (
    ACCEPTED,
    CLUSTER_READY,
    FAILED,
    PUBLISHED,
    SETTLED,
    SUCCEEDED,
    TRAINING,
)

WAIT_SECONDS = 15.0
SPARE_SECONDS = 3600
DEADLINE_GRACE_SECONDS = 60  # our clock is not the chain's


def plan_task(task: Task, seen: TaskSeen) -> TaskPlan:
    """One level-triggered decision; the same observation always gives the same plan."""
    draft = TaskDraft(task, seen)
    if task.spec is None:
        draft.stop(Reason.INVALID_SPEC, f"The spec cannot be read: {task.invalid}")
        return draft.plan(wake_seconds=seen.around.resync_seconds)
    if seen.record is not None and seen.record.final:
        return ended(draft, seen.record)
    if seen.problem is not None or seen.own is None or seen.chain is None:
        return _out_of_sight(draft)
    on_chain = seen.on_chain
    if on_chain is None:
        return _unpublished(draft, task.spec, seen.own, seen.chain)
    draft.show_chain(on_chain, seen.own)
    draft.published()
    match on_chain.published.status:
        case ChainStatus.OPEN:
            return _recruit(draft, task.spec, seen.own, seen.chain, on_chain)
        case ChainStatus.CANCELLED:
            return _cancelled(draft, on_chain)
    mine = on_chain.published.planner.lower() == seen.own.address.lower()
    settled = on_chain.settlement is not None and on_chain.settlement.last
    if on_chain.published.status is ChainStatus.FINISHED and not settled:
        return end_without_last_result(draft, seen.own, on_chain)
    # The members may settle what there is before it expires; once they have begun, the contract makes it wait longer.
    expires = on_chain.published.deadline + on_chain.published.fallback_window
    overdue = seen.now.timestamp() > expires + DEADLINE_GRACE_SECONDS
    if overdue and mine and on_chain.published.status is ChainStatus.STARTED and seen.failure is None:
        return draft.plan(action=Expire())
    participant = on_chain.participant(seen.own.address)
    answer = policy.decide(task.spec, seen.own.spec, seen.own.name, on_chain.published.planner, seen.own.address)
    if participant is None:
        return _sponsored(draft, answer, on_chain) if mine else _without_us(draft)
    if participant.session_key.lower() != (seen.children.session_address or "").lower():
        # The Secret was lost: the old key is gone, so the chain must learn the new one before anything is signed.
        return _renew_session(draft, seen.own)
    return plan_rounds(draft, task.spec, seen.own, seen.chain, on_chain, answer)


def _out_of_sight(draft: TaskDraft) -> TaskPlan:
    """Without wallet or chain nothing is known and nothing is touched: what runs goes on."""
    problem = draft.seen.problem
    assert problem is not None
    for kind in (PUBLISHED, ACCEPTED, TRAINING, SETTLED, SUCCEEDED):
        draft.conditions.unknown(kind, problem.reason, problem.message)
    draft.conditions.unknown(FAILED, problem.reason, problem.message)
    if draft.seen.children.pods:
        draft.conditions.unknown(CLUSTER_READY, problem.reason, "The pods are left as they are.")
    else:
        draft.conditions.false(CLUSTER_READY, Reason.NOT_STARTED, "No pods.")
    draft.message = problem.message
    return draft.plan(wake_seconds=draft.seen.around.error_retry_seconds, problem=problem)


def _unpublished(draft: TaskDraft, spec: TaskSpec, own: Own, chain: ConsortiumOnChain) -> TaskPlan:
    if draft.task.mirror_of is not None:
        draft.stop(
            Reason.PENDING, f"Task {draft.task_id_hex} is not on the chain that this operator sees; it looks again."
        )
        return draft.plan(wake_seconds=WAIT_SECONDS)
    refusal = _may_not_publish(own, chain)
    if refusal is not None:
        draft.stop(*refusal)
        return draft.plan(wake_seconds=draft.seen.around.error_retry_seconds)
    failure = draft.seen.failure
    if failure is not None:
        draft.stop(failure.reason, failure.message)
        return draft.plan(wake_seconds=draft.seen.around.error_retry_seconds)
    try:
        bounty = token_units(spec.bounty.amount, draft.seen.bounty_decimals)
    except ValueError as error:
        draft.stop(Reason.INVALID_SPEC, f"spec.bounty.amount: {error}")
        return draft.plan(wake_seconds=draft.seen.around.resync_seconds)
    accept_by = draft.seen.now + timedelta(seconds=duration_seconds(spec.members.accept_within))
    longest = spec.rounds.count * duration_seconds(spec.rounds.deadline) * 2 + SPARE_SECONDS
    # The chain's clock may be behind ours.
    latest = int(draft.seen.now.timestamp()) + MAX_TASK_SECONDS - SPARE_SECONDS
    draft.conditions.unknown(PUBLISHED, Reason.PENDING, "The task is being published.")
    draft.message = "The task is being published."
    return draft.plan(
        action=Publish(
            spec=TaskTerms.of(draft.task.name, spec).canonical(),
            token=spec.bounty.token or chain.consortium.stake_token,
            bounty=bounty,
            min_members=spec.members.min,
            max_members=spec.members.max,
            rounds=spec.rounds.count,
            accept_by=int(accept_by.timestamp()),
            deadline=min(int(accept_by.timestamp()) + longest, latest),
            answer_window=duration_seconds(spec.rounds.answer_window),
            appeal_window=spec.incentives.appeal_window_seconds,
            fallback_window=duration_seconds(spec.rounds.fallback_window),
            auditor=spec.incentives.auditor,
            salt=names.salt(draft.task.uid),
        )
    )


def _may_not_publish(own: Own, chain: ConsortiumOnChain) -> tuple[Reason, str] | None:
    if Role.PLANNER not in own.spec.roles:
        return (
            Reason.NOT_A_PLANNER,
            f'Subnet "{own.name}" has not the role Planner. Add it to spec.roles, or apply the task at a member that '
            "has it.",
        )
    member = chain.member(own.address)
    ready = member is not None and member.stake >= chain.consortium.min_stake
    if member is None or not ready or Role.PLANNER not in role_names(member.roles):
        return (
            Reason.SUBNET_NOT_READY,
            f'Subnet "{own.name}" is not yet registered and staked as Planner; its conditions say why. The task waits.',
        )
    return None


def _recruit(draft: TaskDraft, spec: TaskSpec, own: Own, chain: ConsortiumOnChain, on_chain: TaskOnChain) -> TaskPlan:
    """The task is open: give our answer; if it is our task, start it when enough have come."""
    published = on_chain.published
    answer = policy.decide(spec, own.spec, own.name, published.planner, own.address)
    accepted = len(on_chain.participants)
    taking_part = on_chain.participant(own.address) is not None
    mine = published.planner.lower() == own.address.lower()
    draft.members(f"{accepted}/{published.max_members}")
    waiting = f"{accepted} members have accepted; {published.min_members} to {published.max_members} may take part."
    draft.conditions.false(TRAINING, Reason.AWAITING_MEMBERS, waiting)
    draft.message = waiting
    action: Action | None = None
    if answer.answer is policy.Answer.DECLINE:
        draft.conditions.false(ACCEPTED, answer.reason, answer.message)
        draft.message = answer.message
        action = Withdraw() if taking_part else None
    elif answer.answer is policy.Answer.WAIT and not taking_part:
        draft.conditions.unknown(ACCEPTED, answer.reason, answer.message)
        draft.message = answer.message
    else:
        action = _accept(draft, own, chain, on_chain, answer)
    draft.sponsoring = mine and not taking_part
    if action is None and mine:
        action = _start_or_cancel(draft, chain, on_chain)
    return _with_failure(draft, action)


def _accept(
    draft: TaskDraft, own: Own, chain: ConsortiumOnChain, on_chain: TaskOnChain, answer: policy.Decided
) -> Action | None:
    """The next step to an acceptance that is on chain with the right key and end point; None when it is there."""
    participant = on_chain.participant(own.address)
    if participant is None and len(on_chain.participants) >= on_chain.published.max_members:
        draft.conditions.false(
            ACCEPTED, Reason.STARTED_WITHOUT_US, f"All {on_chain.published.max_members} places are taken."
        )
        return None
    member = chain.member(own.address)
    if participant is None and (member is None or member.stake < chain.consortium.min_stake):
        draft.conditions.unknown(
            ACCEPTED,
            Reason.SUBNET_NOT_READY,
            f'Subnet "{own.name}" is not registered and staked yet; its conditions say why.',
        )
        return None
    children = draft.seen.children
    if children.session_address is None:
        draft.conditions.unknown(ACCEPTED, Reason.PENDING, "The session key is being made.")
        return MakeSession()
    service = exchange_service(draft.task.name, draft.task.namespace, own.spec.exchange)
    draft.apply(service)
    address = endpoint(own.spec.exchange, children.services.get(names.exchange(draft.task.name)))
    if address is None:
        draft.conditions.unknown(
            ACCEPTED, Reason.ENDPOINT_PENDING, f"Service {names.exchange(draft.task.name)} has no node port yet."
        )
        draft.wake_in(WAIT_SECONDS)
        return None
    roles = _working_roles(own)
    if participant is None:
        draft.conditions.unknown(ACCEPTED, Reason.PENDING, "The acceptance is on its way to the chain.")
        return Accept(roles, address)
    if answer.answer is policy.Answer.ACCEPT:
        draft.conditions.true(ACCEPTED, answer.reason, answer.message)
    else:
        draft.conditions.true(ACCEPTED, Reason.ACCEPTED_BY_PERSON, "The task was accepted.")
    if participant.session_key.lower() != children.session_address.lower() or participant.endpoint != address:
        return Accept(roles, address)
    return None


def _working_roles(own: Own) -> int:
    return role_bits(role for role in own.spec.roles if role in policy.WORKING_ROLES)


def _start_or_cancel(draft: TaskDraft, chain: ConsortiumOnChain, on_chain: TaskOnChain) -> Action | None:
    """Start when nobody more can come or the time is over; give the bounty back when too few came in time."""
    published, accepted = on_chain.published, len(on_chain.participants)
    now = draft.seen.now.timestamp()
    able = [member for member in chain.members if member.stake >= chain.consortium.min_stake]
    working = sum(1 for member in able if member.roles & role_bits(policy.WORKING_ROLES))
    over = now > published.accept_by
    enough = accepted >= published.min_members
    if enough and (over or accepted >= min(working, published.max_members)):
        return Start()
    if over and not enough:
        return Cancel()
    draft.wake_in(max(1.0, published.accept_by + 1 - now))
    return None


def _with_failure(draft: TaskDraft, action: Action | None) -> TaskPlan:
    """What this pass tried in vain is said where it belongs."""
    failure = draft.seen.failure
    if failure is None or action is None:
        return draft.plan(action=action)
    match action:
        case Start():
            draft.conditions.false(TRAINING, failure.reason, failure.message)
        case Cancel():
            draft.conditions.unknown(FAILED, failure.reason, failure.message)
        case _:
            draft.conditions.unknown(ACCEPTED, failure.reason, failure.message)
    draft.message = failure.message
    return draft.plan(wake_seconds=draft.seen.around.error_retry_seconds)


def _renew_session(draft: TaskDraft, own: Own) -> TaskPlan:
    """The running task's session key is not the one on chain."""
    draft.conditions.true(ACCEPTED, Reason.ACCEPTED_BY_POLICY, "The task was accepted.")
    children = draft.seen.children
    if children.session_address is None:
        return _with_failure(draft, MakeSession())
    draft.apply(exchange_service(draft.task.name, draft.task.namespace, own.spec.exchange))
    address = endpoint(own.spec.exchange, children.services.get(names.exchange(draft.task.name)))
    if address is None:
        draft.conditions.false(CLUSTER_READY, Reason.ENDPOINT_PENDING, "The exchange Service has no node port yet.")
        return draft.plan(wake_seconds=WAIT_SECONDS)
    draft.conditions.false(CLUSTER_READY, Reason.PENDING, "A new session key is on its way to the chain.")
    return _with_failure(draft, Accept(_working_roles(own), address))


def _sponsored(draft: TaskDraft, answer: policy.Decided, on_chain: TaskOnChain) -> TaskPlan:
    """Our task, in which others train: its end is what the chain says."""
    draft.sponsoring = True
    reason, text = answer.reason, answer.message
    if answer.answer is not policy.Answer.DECLINE:
        reason, text = Reason.STARTED_WITHOUT_US, "The task was started without this member."
    remove_cluster(draft, reason, "This member pays for the task and does not take part.")
    draft.conditions.false(ACCEPTED, reason, text)
    draft.members(f"{len(on_chain.participants)}/{len(on_chain.participants)}")
    settlement = on_chain.settlement
    if settlement is None or not settlement.last:
        draft.conditions.true(TRAINING, Reason.ROUNDS_RUNNING, "The members train.")
        draft.message = "The members train; this member does not take part."
        return draft.plan()
    report = Report(
        outcome="Succeeded",
        model_digest="0x" + settlement.model_digest.hex(),
        model_location="at the members that trained",
        round=settlement.round,
    )
    record = Record(
        outcome="Succeeded",
        reason=Reason.ROUNDS_DONE,
        report=report,
        members=len(on_chain.participants),
        took_part=False,
        settled=True,
        claimed="0",
    )
    draft.record(record)
    return ended(draft, record)


def _without_us(draft: TaskDraft) -> TaskPlan:
    answered = draft.task.spec is not None and draft.task.spec.participation.decision is Decision.DECLINE
    reason = Reason.DECLINED_BY_PERSON if answered else Reason.STARTED_WITHOUT_US
    text = "spec.participation.decision is Decline." if answered else "The task was started without this member."
    draft.conditions.false(ACCEPTED, reason, text)
    draft.conditions.false(TRAINING, reason, text)
    draft.conditions.false(SETTLED, Reason.NOT_STARTED, text)
    draft.conditions.false(SUCCEEDED, reason, text)
    draft.message = text
    remove_cluster(draft, reason, text)
    return draft.plan(wake_seconds=draft.seen.around.resync_seconds)


def _cancelled(draft: TaskDraft, on_chain: TaskOnChain) -> TaskPlan:
    published = on_chain.published
    too_few = len(on_chain.participants) < published.min_members and draft.seen.now.timestamp() > published.accept_by
    if too_few:
        reason = Reason.NOT_ENOUGH_MEMBERS
        text = (
            f"Only {len(on_chain.participants)} of at least {published.min_members} members accepted in time; the "
            "bounty went back to the Planner. Apply a new task with a smaller members.min or a longer "
            "members.acceptWithin."
        )
    else:
        reason, text = Reason.CANCELLED_BY_PLANNER, "The Planner cancelled the task; the bounty went back."
    return draft.fail(reason, text)
