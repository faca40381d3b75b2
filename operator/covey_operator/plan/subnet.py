"""What should be done for a Subnet now: make keys, register, stake, and mirror the tasks of others."""

from __future__ import annotations

from covey_api.quantity import token_amount, token_units, token_words
from covey_api.status import ConditionStatus, Reason
from covey_api.subnet import SubnetMember, SubnetSpec, SubnetStatus
from covey_api.task import Bounty, TaskSpec
from covey_api.terms import TaskTerms, TermsError
from covey_chain.types import Member
from covey_chain.types import TaskStatus as ChainStatus

from covey_operator.kinds import TASK, Object
from covey_operator.plan import names
from covey_operator.plan.model import (
    Action,
    ConsortiumOnChain,
    MakeTls,
    RaiseStake,
    Register,
    SubnetObject,
    SubnetPlan,
    SubnetSeen,
    TaskOnChain,
    role_bits,
    role_names,
)
from covey_operator.plan.status import (
    CHAIN_SYNCED,
    EXCHANGE_REACHABLE,
    READY,
    REGISTERED,
    STAKED,
    SUBNET_TYPES,
    Conditions,
)

# A person or the chain can only answer these; the words come from where they happened.
CHAIN_REASONS = frozenset({Reason.RPC_UNAVAILABLE, Reason.WRONG_CHAIN, Reason.NO_CONTRACT})
MAX_MEMBERS_SHOWN = 256
LOCAL_FIELDS = {"suspend", "participation"}  # people's part of a mirror; never applied by the operator


def plan_subnet(subnet: SubnetObject, seen: SubnetSeen) -> SubnetPlan:
    """One level-triggered decision; the same observation always gives the same plan."""
    conditions = Conditions(SUBNET_TYPES, subnet.generation, subnet.conditions, seen.now)
    if subnet.spec is None:
        conditions.false(READY, Reason.INVALID_SPEC, f"The spec cannot be read: {subnet.invalid}")
        return _close(subnet, seen, conditions, None, wake_seconds=seen.around.resync_seconds)
    _say_exchange(conditions, seen)
    if seen.problem is not None:
        problem = seen.problem
        conditions.false(READY, problem.reason, problem.message)
        if problem.reason in CHAIN_REASONS:
            conditions.false(CHAIN_SYNCED, problem.reason, problem.message)
        else:
            conditions.unknown(CHAIN_SYNCED, problem.reason, problem.message)
        conditions.unknown(REGISTERED, problem.reason, problem.message)
        conditions.unknown(STAKED, problem.reason, problem.message)
        return _close(subnet, seen, conditions, None, wake_seconds=seen.around.error_retry_seconds)
    assert seen.chain is not None
    assert seen.address is not None
    conditions.true(CHAIN_SYNCED, Reason.AS_EXPECTED, "The chain mirror is up to date.")
    action = _next_action(subnet.spec, seen, seen.chain, conditions)
    if seen.failure is not None and action is not None:
        kind = STAKED if isinstance(action, RaiseStake) else REGISTERED
        conditions.false(kind, seen.failure.reason, seen.failure.message)
        _say_ready(conditions)
        return _close(subnet, seen, conditions, None, wake_seconds=seen.around.error_retry_seconds)
    _say_ready(conditions)
    mirrors, unreadable = _mirrors(subnet, subnet.spec, seen, seen.chain, seen.address)
    return _close(subnet, seen, conditions, action, mirrors=mirrors, unreadable=unreadable)


def _next_action(spec: SubnetSpec, seen: SubnetSeen, chain: ConsortiumOnChain, conditions: Conditions) -> Action | None:
    assert seen.address is not None
    member = chain.member(seen.address)
    conditions.false(STAKED, Reason.PENDING, "Registration comes first.")
    if seen.tls is None:
        conditions.false(REGISTERED, Reason.PENDING, "The TLS key is being made.")
        return MakeTls()
    roles, endpoint = role_bits(spec.roles), spec.exchange.advertise
    if member is None:
        conditions.false(REGISTERED, Reason.PENDING, "The registration is on its way to the chain.")
        return Register(roles, endpoint)
    if (member.roles, member.endpoint, member.tls_key_hash) != (roles, endpoint, seen.tls.key_hash):
        conditions.false(REGISTERED, Reason.PENDING, "The changed registration is on its way to the chain.")
        return Register(roles, endpoint)
    conditions.true(REGISTERED, Reason.AS_EXPECTED, f"{seen.address} is a member of {spec.consortium}.")
    return _stake(spec, chain, member, conditions)


def _stake(spec: SubnetSpec, chain: ConsortiumOnChain, member: Member, conditions: Conditions) -> Action | None:
    least = chain.consortium.min_stake
    try:
        wanted = token_units(spec.stake, chain.decimals)
    except ValueError as error:
        conditions.false(STAKED, Reason.INVALID_SPEC, f"spec.stake: {error}")
        return None
    if wanted < least:
        text = (
            f"The consortium asks for a stake of at least {token_amount(least, chain.decimals)} {chain.symbol}; "
            f"spec.stake is {spec.stake}. Raise spec.stake."
        )
        conditions.false(STAKED, Reason.INVALID_SPEC, text)
        return None
    if member.stake < wanted:
        conditions.false(STAKED, Reason.PENDING, "The stake is on its way to the chain.")
        return RaiseStake(wanted)
    held = token_amount(member.stake, chain.decimals)
    conditions.true(STAKED, Reason.AS_EXPECTED, f"A stake of {held} {chain.symbol} is held.")
    return None


def _say_exchange(conditions: Conditions, seen: SubnetSeen) -> None:
    """What the running tasks' validators say about their peers; without tasks nobody can know."""
    told = [one for one in seen.progress if one.peers]
    if any(one.peers_connected for one in told):
        conditions.true(EXCHANGE_REACHABLE, Reason.AS_EXPECTED, "Peers are connected.")
    elif seen.unheard:
        conditions.keep(EXCHANGE_REACHABLE)
    elif not told:
        conditions.unknown(EXCHANGE_REACHABLE, Reason.NOT_STARTED, "No task runs that could show it.")
    elif seen.cut_off:
        text = (
            f"{', '.join(seen.cut_off)}: no peer is connected. Check spec.exchange.advertise, the firewall and the "
            "peers."
        )
        conditions.false(EXCHANGE_REACHABLE, Reason.PEERS_UNREACHABLE, text)
    else:
        conditions.unknown(EXCHANGE_REACHABLE, Reason.PODS_STARTING, "A task has just begun; its peers are connecting.")


def _say_ready(conditions: Conditions) -> None:
    for kind in (CHAIN_SYNCED, REGISTERED, STAKED):
        if conditions.status(kind) is not ConditionStatus.TRUE:
            conditions.false(READY, conditions.reason(kind), conditions.message(kind))
            return
    conditions.true(READY, Reason.AS_EXPECTED, "The member is registered and staked.")


def _mirrors(
    subnet: SubnetObject, spec: SubnetSpec, seen: SubnetSeen, chain: ConsortiumOnChain, own: str
) -> tuple[tuple[Object, ...], tuple[bytes, ...]]:
    """Objects for open tasks of others that have none here yet."""
    taken = set(seen.taken_names)
    found: list[Object] = []
    unreadable: list[bytes] = []
    for task_id, task in sorted(chain.tasks.items(), key=lambda item: (item[1].published.block, item[0])):
        published = task.published
        if (
            published.status is not ChainStatus.OPEN
            or published.planner.lower() == own.lower()
            or task_id in seen.mirrored
        ):
            continue
        try:
            terms = TaskTerms.parse(published.spec)
        except TermsError:
            unreadable.append(task_id)
            continue
        name = names.mirror(terms.name, task_id, frozenset(taken))
        taken.add(name)
        found.append(_mirror(subnet, name, terms, task, spec))
    return tuple(found), tuple(unreadable)


def _mirror(subnet: SubnetObject, name: str, terms: TaskTerms, task: TaskOnChain, spec: SubnetSpec) -> Object:
    published = task.published
    local = TaskSpec(
        subnet=subnet.name,
        bounty=Bounty(amount=token_amount(published.bounty, task.decimals), token=published.token),
        **{field: getattr(terms, field) for field in type(terms).model_fields if field != "name"},
    )
    applied = {field: value for field, value in local.wire().items() if field not in LOCAL_FIELDS}
    return {
        "apiVersion": TASK.api_version,
        "kind": TASK.kind,
        "metadata": {
            "name": name,
            "namespace": subnet.namespace,
            "labels": {
                names.NAME: "covey",
                names.MANAGED_BY: "covey-operator",
                names.MIRROR: "true",
                names.SUBNET: subnet.name,
            },
            "annotations": {names.TASK_ID: "0x" + published.task_id.hex()},
            "finalizers": [names.FINALIZER],
        },
        "spec": applied,
    }


def _close(
    subnet: SubnetObject,
    seen: SubnetSeen,
    conditions: Conditions,
    action: Action | None,
    mirrors: tuple[Object, ...] = (),
    unreadable: tuple[bytes, ...] = (),
    wake_seconds: float | None = None,
) -> SubnetPlan:
    status = SubnetStatus(
        observed_generation=subnet.generation,
        conditions=conditions.build(),
        address=seen.address,
        **_figures(seen),
    )
    shown = subnet.shown
    if shown is not None and status.model_copy(update={"block": shown.block}) == shown:
        # Two operators, or one before and after a restart, have read to different blocks: that alone is no news.
        status = shown
    return SubnetPlan(
        status=status,
        action=action,
        mirrors=mirrors,
        wake_seconds=wake_seconds if wake_seconds is not None else seen.around.resync_seconds,
        unreadable=unreadable,
    )


def _figures(seen: SubnetSeen) -> dict[str, object]:
    chain, own = seen.chain, seen.address
    if chain is None or own is None:
        return {}
    member = chain.member(own)
    stake_token = chain.consortium.stake_token.lower()
    earned = sum(
        task.claimed.get(own, 0) for task in chain.tasks.values() if task.published.token.lower() == stake_token
    )
    return {
        "stake": token_amount(member.stake, chain.decimals) if member is not None else None,
        "earned": token_words(earned, chain.decimals),
        "balance": token_words(seen.balance, chain.decimals) if seen.balance is not None else None,
        "block": chain.block,
        "members": [
            SubnetMember(
                address=one.address,
                roles=role_names(one.roles),
                stake=token_amount(one.stake, chain.decimals),
            )
            for one in sorted(chain.members, key=lambda one: one.address.lower())[:MAX_MEMBERS_SHOWN]
        ],
    }
