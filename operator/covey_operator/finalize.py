"""Deletion: what is outside of Kubernetes is undone first, then the children go, then the object may go.

It works with an invalid spec, without a Subnet and without a chain; a chain that does not answer is waited for only so
long (COVEY_CLEANUP_SECONDS).
"""

from __future__ import annotations

import logging

from covey_chain.errors import ChainError
from covey_chain.types import TaskStatus

from covey_operator import failures
from covey_operator.actions import transact
from covey_operator.keys import utc_now
from covey_operator.kinds import (
    TASK,
    Object,
    deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
)
from covey_operator.observe import Member, TaskObservation, observe_task, own_secret
from covey_operator.parse import parse_task
from covey_operator.plan import names
from covey_operator.plan.clock import moment
from covey_operator.plan.cluster import remains
from covey_operator.plan.model import Action, Cancel, Problem, Task, Withdraw
from covey_operator.world import World

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


async def finalize_task(world: World, obj: Object) -> float | None:
    """Pods go, the chain is told, children go, the finalizer goes."""
    if names.FINALIZER not in (obj["metadata"].get("finalizers") or []):
        return None
    task = parse_task(obj)
    observed = await observe_task(world, obj, task)
    pods = observed.seen.children.pods
    for part in remains(observed.seen.children):
        await world.kube.remove(part, names.HOLD)
    if pods and not _out_of_time(world, obj):
        return RETRY_SECONDS  # their deletion wakes this pass earlier
    problem = await _leave_chain(world, observed)
    if problem is not None:
        if not _out_of_time(world, obj):
            log.info("FederatedTask %s: deletion waits for the chain: %s", name_of(obj), problem.message)
            return RETRY_SECONDS
        await world.kube.event(
            obj, problem.reason.value, f"Deleted without telling the chain: {problem.message}", warning=True
        )
    await _delete_children(world, observed, task)
    await _release(world, obj)
    return None


async def finalize_subnet(world: World, obj: Object) -> float | None:
    """Its mirrors go first, and tasks that are being deleted, while the wallet is still known to take them back.

    Membership and stake on chain stay.
    """
    if names.FINALIZER not in (obj["metadata"].get("finalizers") or []):
        return None
    tasks = world.kube.each(TASK, namespace_of(obj))
    own = [task async for task in tasks if (task.get("spec") or {}).get("subnet") == name_of(obj)]
    mirrors = [task for task in own if labels_of(task).get(names.MIRROR) == "true"]
    for mirror in mirrors:
        if not deleting(mirror):
            await world.kube.delete(mirror)
    if (mirrors or any(map(deleting, own))) and not _out_of_time(world, obj, factor=2.0):
        return 1.0
    await _release(world, obj)
    return None


async def _leave_chain(world: World, observed: TaskObservation) -> Problem | None:
    """Cancel or withdraw what has not started; None when nothing is left to tell."""
    member, seen = observed.member, observed.seen
    if member is None:
        return _waiting_helps(seen.problem)
    action = _leaving(observed, member)
    if action is None:
        return None
    try:
        await transact(world, member, action, seen.task_id, None, None)
    except ChainError as error:
        return failures.of_chain(error)
    except TimeoutError:
        return failures.too_slow(world.settings.chain_timeout_seconds)
    return None


def _leaving(observed: TaskObservation, member: Member) -> Action | None:
    on_chain = observed.seen.on_chain
    if on_chain is None or on_chain.published.status is not TaskStatus.OPEN:
        return None
    if on_chain.published.planner.lower() == member.address.lower():
        return Cancel()
    return Withdraw() if on_chain.participant(member.address) is not None else None


def _waiting_helps(problem: Problem | None) -> Problem | None:
    """Without Subnet or wallet nobody can speak for the member: waiting is of no use."""
    if problem is None or problem.reason in failures.NO_VOICE:
        return None
    return problem


async def _delete_children(world: World, observed: TaskObservation, task: Task) -> None:
    children = observed.seen.children
    for group in (children.services, children.config_maps, children.claims):
        for child in group.values():
            await world.kube.delete(child)
    for name in (names.session(task.name), names.ray_token(task.name)):
        secret = await own_secret(world, task, name)
        if secret is not None:
            await world.kube.delete(secret)
    # Last, so that no pod ever runs without them.
    for policy in children.policies.values():
        await world.kube.delete(policy)


async def _release(world: World, obj: Object) -> None:
    kept = [name for name in obj["metadata"]["finalizers"] if name != names.FINALIZER]
    await world.kube.set_finalizers(obj, kept)
    key = key_of(obj)
    world.metrics.conditions.drop(key)
    world.progress.forget(key)
    await world.chains.forget(key)


def _out_of_time(world: World, obj: Object, factor: float = 1.0) -> bool:
    since = moment(obj["metadata"]["deletionTimestamp"])
    return (utc_now() - since).total_seconds() > world.settings.cleanup_seconds * factor
