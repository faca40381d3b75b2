"""One level-triggered pass over a Subnet or a FederatedTask; safe at any time, any number of times."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace

from covey_api.reasons import EXPLANATIONS, NORMAL_LIFE, NOTHING_TO_DO
from covey_api.status import Condition, ConditionStatus, Reason
from covey_api.subnet import SubnetStatus
from covey_api.task import TaskStatus
from covey_chain.errors import ChainError

from covey_operator import failures
from covey_operator.actions import make_secret, transact
from covey_operator.finalize import finalize_subnet, finalize_task
from covey_operator.kinds import SUBNET, TASK, Key, Object, deleting, generation_of, key_of, name_of
from covey_operator.kube import NameConflictError, RefusedError
from covey_operator.observe import (
    Known,
    SubnetObservation,
    TaskObservation,
    observe_subnet,
    observe_task,
    session_address,
)
from covey_operator.parse import parse_subnet, parse_task, read_conditions
from covey_operator.plan import names
from covey_operator.plan.model import (
    Action,
    Children,
    MakeRayToken,
    MakeSecret,
    MakeSession,
    Problem,
    SubnetPlan,
    Task,
    TaskPlan,
)
from covey_operator.plan.status import CLUSTER_READY
from covey_operator.plan.subnet import plan_subnet
from covey_operator.plan.task import plan_task
from covey_operator.world import World

log = logging.getLogger(__name__)

TELL_AFTER_SECONDS = 1.0
MAX_STEPS = 12  # from publication to the first pod a pass takes about eight
NO_NEWS = (Reason.PENDING, Reason.NOT_STARTED)
KINDS = {kind.kind: kind for kind in (SUBNET, TASK)}


async def reconcile(world: World, key: Key) -> float | None:
    """Bring one object and the world together; seconds until the next look, None if the object is gone."""
    kind, namespace, name = key
    obj = await world.kube.get(KINDS[kind], namespace, name)
    if obj is None:
        await _forget(world, key)
        return None
    world.generations[key] = generation_of(obj)
    if deleting(obj):
        finalize = finalize_task if kind == TASK.kind else finalize_subnet
        return await finalize(world, obj)
    finalizers: list[str] = obj["metadata"].get("finalizers") or []
    if names.FINALIZER not in finalizers:
        obj = await world.kube.set_finalizers(obj, [*finalizers, names.FINALIZER])
        if obj is None:
            return None
    return await (_reconcile_task if kind == TASK.kind else _reconcile_subnet)(world, obj)


async def _forget(world: World, key: Key) -> None:
    world.metrics.conditions.drop(key)
    world.progress.forget(key)
    world.failing.discard(key)
    world.generations.pop(key, None)
    await world.chains.forget(key)


async def _reconcile_task(world: World, obj: Object) -> float:
    task = parse_task(obj)
    known: Known | None = None
    for _ in range(MAX_STEPS):
        observed = await observe_task(world, obj, task, known)
        plan = plan_task(task, observed.seen)
        try:
            written = await _apply_task(world, obj, plan, observed.seen.children)
            removed = [await world.kube.remove(child, names.HOLD) for child in plan.delete]
        except NameConflictError as conflict:
            return await _task_blocked(world, obj, task, observed, failures.of_name(conflict))
        except RefusedError as refusal:
            return await _task_blocked(world, obj, task, observed, failures.of_refusal(refusal))
        known = None if any(removed) else Known(observed.seen.children.having(written), observed.read_at)
        action = plan.action
        if isinstance(action, MakeSecret):
            try:
                made = await make_secret(world, obj, action)
            except (NameConflictError, RefusedError) as error:
                plan = plan_task(task, replace(observed.seen, failure=_problem(world, error)))
                break
            if known is not None:
                known = replace(known, children=_with_secret(known.children, action, made))
        elif action is not None:
            obj, failure = await _telling(world, obj, plan.status, _act_for_task(world, obj, action, observed))
            if failure is not None:
                plan = plan_task(task, replace(observed.seen, failure=failure))
                break
        elif not written and not any(removed) and not await _ask_first(world, task, plan):
            break
    _watch_head(world, task, plan)
    await _show(world, obj, plan.status.wire(), plan.status.conditions)
    return plan.wake_seconds


def _watch_head(world: World, task: Task, plan: TaskPlan) -> None:
    if task.spec is not None:
        subnet = (SUBNET.kind, task.namespace, task.spec.subnet)
        world.progress.watch((TASK.kind, task.namespace, task.name), plan.watch_head, subnet)


async def _ask_first(world: World, task: Task, plan: TaskPlan) -> bool:
    """Whether a validator of which nothing was known has told how far it is."""
    _watch_head(world, task, plan)
    return await world.progress.ask_first((TASK.kind, task.namespace, task.name))


def _with_secret(children: Children, action: MakeSecret, made: Object) -> Children:
    match action:
        case MakeSession():
            return replace(children, session_address=session_address(made))
        case MakeRayToken():
            return replace(children, ray_token=True)
        case _:
            return children


async def _act_for_task(world: World, obj: Object, action: Action, observed: TaskObservation) -> Problem | None:
    try:
        assert observed.member is not None, "a plan acts on chain only when the chain was seen"
        session = observed.seen.children.session_address
        await transact(world, observed.member, action, observed.seen.task_id, session, None)
    except (ChainError, TimeoutError) as error:
        world.failing.add(key_of(obj))
        return _problem(world, error)
    _done(world, obj, action)
    return None


def _done(world: World, obj: Object, action: Action) -> None:
    world.failing.discard(key_of(obj))
    log.info("%s %s: %s", obj["kind"], name_of(obj), type(action).__name__)


def _problem(world: World, error: ChainError | NameConflictError | RefusedError | TimeoutError) -> Problem:
    match error:
        case ChainError():
            world.metrics.chain_errors.labels(type(error).__name__).inc()
            return failures.of_chain(error)
        case NameConflictError():
            return failures.of_name(error)
        case RefusedError():
            return failures.of_refusal(error)
        case _:
            return failures.too_slow(world.settings.chain_timeout_seconds)


async def _apply_task(world: World, obj: Object, plan: TaskPlan, children: Children) -> list[Object]:
    """Children as planned, kind after kind in the planned order, those of a kind side by side; what was written."""
    written: list[Object] = []
    for _, group in itertools.groupby(plan.apply, key=lambda child: child["kind"]):
        applied = await asyncio.gather(
            *(world.kube.apply(child, children.find(child["kind"], name_of(child)), obj) for child in group),
            return_exceptions=True,
        )
        for outcome in applied:
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                written.append(outcome)
    return written


async def _task_blocked(world: World, obj: Object, task: Task, observed: TaskObservation, problem: Problem) -> float:
    """A child cannot be had: say why, and look again now and then."""
    log.warning("%s %s: %s", obj["kind"], name_of(obj), problem.message)
    plan = plan_task(task, replace(observed.seen, failure=problem))
    conditions = [
        condition.model_copy(
            update={"status": ConditionStatus.FALSE, "reason": problem.reason.value, "message": problem.message}
        )
        if condition.type == CLUSTER_READY
        else condition
        for condition in plan.status.conditions
    ]
    status = plan.status.model_copy(update={"conditions": conditions, "message": problem.message})
    await _show(world, obj, status.wire(), conditions)
    return world.settings.error_retry_seconds


async def _reconcile_subnet(world: World, obj: Object) -> float:
    subnet = parse_subnet(obj)
    for _ in range(MAX_STEPS):
        observed = await observe_subnet(world, obj, subnet)
        plan = plan_subnet(subnet, observed.seen)
        if plan.action is not None:
            obj, failure = await _telling(world, obj, plan.status, _act_for_subnet(world, obj, plan.action, observed))
            if failure is not None:
                plan = plan_subnet(subnet, replace(observed.seen, failure=failure))
                break
        else:
            await _make_mirrors(world, obj, plan)
            break
    await _show(world, obj, plan.status.wire(), plan.status.conditions)
    return plan.wake_seconds


async def _act_for_subnet(world: World, obj: Object, action: Action, observed: SubnetObservation) -> Problem | None:
    try:
        if isinstance(action, MakeSecret):
            await make_secret(world, obj, action)
            return None
        assert observed.member is not None, "a plan acts on chain only when the chain was seen"
        await transact(world, observed.member, action, None, None, observed.seen.tls)
    except (ChainError, NameConflictError, RefusedError, TimeoutError) as error:
        world.failing.add(key_of(obj))
        return _problem(world, error)
    _done(world, obj, action)
    return None


async def _make_mirrors(world: World, obj: Object, plan: SubnetPlan) -> None:
    for task_id in plan.unreadable:
        log.warning("Subnet %s: task 0x%s has terms that this version cannot read", name_of(obj), task_id.hex())
    for mirror in plan.mirrors:
        try:
            made = await world.kube.apply(mirror, None, obj)
            if made is not None:
                world.wake(key_of(made))  # an own write, of which the watch does not tell
        except NameConflictError:
            world.wake(key_of(obj))  # the name was taken a moment ago; the next pass finds a free one
        except RefusedError as refusal:
            log.warning("Subnet %s: %s", name_of(obj), refusal)


def _is_news(condition: Condition, before: Condition | None) -> bool:
    """Whether a person wants an event: another status or reason than before, and something that has happened."""
    if condition.status == ConditionStatus.UNKNOWN or condition.reason in NO_NEWS:
        return False
    if (condition.status, condition.reason) == (ConditionStatus.FALSE, Reason.AS_EXPECTED):
        return False  # that nothing has failed
    if before is None or (before.status, before.reason) != (condition.status, condition.reason):
        return True
    # Each further penalty is news of its own; its words say how much, and why.
    return condition.reason == Reason.STAKE_HELD and before.message != condition.message


def _asks_for_action(reason: Reason) -> bool:
    return reason not in NORMAL_LIFE.reasons and EXPLANATIONS[reason].remedy != NOTHING_TO_DO


async def _telling(
    world: World, obj: Object, status: SubnetStatus | TaskStatus, acting: Coroutine[None, None, Problem | None]
) -> tuple[Object, Problem | None]:
    """Act, and say so meanwhile if it takes longer than anybody would notice; the object as it is then.

    Nothing is said if it failed the last time: the failure stays shown until it succeeds. Else each try would write
    twice and tell two events, and of two operators each would wake the other with that.
    """
    action = asyncio.ensure_future(acting)
    try:
        await asyncio.wait({action}, timeout=TELL_AFTER_SECONDS)
        if not action.done() and key_of(obj) not in world.failing:
            obj = await _show(world, obj, status.wire(), status.conditions)
        return obj, await action
    finally:
        action.cancel()
        await asyncio.wait({action})


async def _show(world: World, obj: Object, status: Object, conditions: Sequence[Condition]) -> Object:
    """Write the status if it says something new, with an event for every condition that changed its mind."""
    world.metrics.conditions.show(key_of(obj), conditions)
    before = {condition.type: condition for condition in read_conditions(obj)}
    if await world.kube.apply_status(obj, status):
        for condition in conditions:
            if _is_news(condition, before.get(condition.type)):
                text = f"{condition.type} is {condition.status}: {condition.message}"
                await world.kube.event(obj, condition.reason, text, warning=_asks_for_action(Reason(condition.reason)))
    return {**obj, "status": status}
