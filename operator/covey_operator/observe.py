"""Reads the world for one pass: live objects, secrets, and the chain as the mirror sees it.

A pass carries out several steps. What it has read of a task's children serves the next step together with what the
pass has written itself, as long as it is a few seconds old; after a deletion, or after a long wait for a block, all is
read again. Nothing is lost by that: a change by somebody else wakes the task once more, what is deleted is deleted by
uid, and what is made is looked for by name before.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from covey_api.status import Reason
from covey_api.subnet import Backend, SubnetSpec
from covey_api.task import TaskSpec
from covey_chain.errors import ChainError
from covey_chain.wallet import Wallet
from kubernetes.aio.client.exceptions import ApiException

from covey_operator import failures
from covey_operator.keys import BadKeyError, read_entry, read_tls, utc_now, wallet_key
from covey_operator.kinds import (
    CLAIM,
    CONFIG_MAP,
    NETWORK_POLICY,
    POD,
    RAY_CLUSTER,
    SECRET,
    SERVICE,
    SUBNET,
    TASK,
    Key,
    Kind,
    Object,
    controlled_by,
    controller_of,
    held,
    key_of,
    name_of,
    uid_of,
)
from covey_operator.kube import FORBIDDEN, NOT_FOUND, NameConflictError
from covey_operator.mirror import Mirror
from covey_operator.news import Interest
from covey_operator.owner import signer_of
from covey_operator.parse import glance, parse_subnet
from covey_operator.plan import names
from covey_operator.plan.model import (
    Children,
    ConsortiumOnChain,
    Own,
    Problem,
    SubnetObject,
    SubnetSeen,
    Task,
    TaskSeen,
)
from covey_operator.plan.report import Record, read_record
from covey_operator.plan.storage import SESSION_KEY, read_ledger
from covey_operator.world import World

CHILDREN_SECONDS = 5.0  # so long a pass builds on what it has read of a task's children


@dataclass(frozen=True)
class Member:
    """This member as far as its Subnet can be acted for: wallet, mirror, and the consortium on chain."""

    address: str
    wallet: Wallet
    mirror: Mirror
    chain: ConsortiumOnChain
    task_id: bytes | None  # of the task that the pass is about


@dataclass(frozen=True)
class Known:
    """The task's children as this pass knows them, and when they were read (the event loop's clock, seconds)."""

    children: Children
    read_at: float

    @property
    def fresh(self) -> bool:
        """Whether a further step may build on it."""
        return asyncio.get_running_loop().time() - self.read_at < CHILDREN_SECONDS


@dataclass(frozen=True)
class TaskObservation:
    """What a pass has seen, and with whom it can act."""

    seen: TaskSeen
    member: Member | None
    read_at: float = 0.0  # when the children were read


@dataclass(frozen=True)
class SubnetObservation:
    """What a pass has seen, and with whom it can act."""

    seen: SubnetSeen
    member: Member | None


async def reach_member(
    world: World, namespace: str, spec: SubnetSpec, key: Key, task: Task | None = None
) -> Member | Problem:
    """Wallet and chain of a Subnet, or what keeps us from them; from now on the chain wakes `key`.

    Args:
        world: the edges.
        namespace: of the Subnet.
        spec: of the Subnet.
        key: the object that the pass is about: the Subnet, or `task`.
        task: None for the Subnet itself.
    """
    signer = await signer_of(world.shared, namespace, spec.chain)
    if isinstance(signer, Problem):
        return signer
    mirror = world.chains.mirror(spec.chain)
    interest = Interest(spec.consortium, signer.address)
    mirror.subscribe(key, interest)  # first of all: a chain that comes back must wake who could not ask it
    try:
        task_id = None
        if task is not None:
            task_id = task.mirror_of or await mirror.task_id(signer.address, names.salt(task.uid))
            mirror.subscribe(key, replace(interest, task_id=task_id))
        chain = await mirror.view(spec.consortium)
        if chain is None:
            return failures.no_consortium(spec.consortium, spec.chain.contract)
        wallet = await world.chains.wallet(spec.chain, signer)
    except ChainError as error:
        return failures.of_chain(error)
    return Member(signer.address, wallet, mirror, chain, task_id)


async def observe_subnet(world: World, obj: Object, subnet: SubnetObject) -> SubnetObservation:
    """Everything that a plan for a Subnet depends on."""
    around, now = world.surroundings, utc_now()
    if subnet.spec is None:
        return SubnetObservation(SubnetSeen(now=now, around=around), None)
    tasks = [glance(task) async for task in world.kube.each(TASK, subnet.namespace)]
    here = [task for task in tasks if task.subnet == subnet.name]
    answers = [answer for task in here if (answer := world.progress.live(task.key)) is not None]
    unheard = any(task.training and world.progress.answer(task.key) is None for task in here)
    member = await reach_member(world, subnet.namespace, subnet.spec, key_of(obj))
    if isinstance(member, Problem):
        seen = SubnetSeen(now=now, around=around, problem=member, progress=tuple(answers), unheard=unheard)
        return SubnetObservation(seen, None)
    problem, tls, balance = None, None, None
    secret = await world.kube.get(SECRET, subnet.namespace, names.exchange(subnet.name))
    try:
        if secret is not None and not controlled_by(secret, subnet.uid):
            problem = failures.of_name(NameConflictError("Secret", subnet.namespace, name_of(secret)))
        elif secret is not None:
            tls = read_tls(secret)
        balance = await member.wallet.chain.token_balance(member.chain.consortium.stake_token, member.address)
    except BadKeyError as error:
        problem = failures.bad_tls_secret(names.exchange(subnet.name), error)
    except ChainError as error:
        problem = failures.of_chain(error)
    seen = SubnetSeen(
        now=now,
        around=around,
        address=member.address,
        chain=member.chain,
        tls=tls,
        balance=balance,
        problem=problem,
        mirrored=frozenset(task.mirror_of for task in here if task.mirror_of is not None),
        taken_names=frozenset(task.key[2] for task in tasks),
        progress=tuple(answers),
        cut_off=tuple(task.key[2] for task in here if task.cut_off),
        unheard=unheard,
    )
    return SubnetObservation(seen, member)


async def observe_task(world: World, obj: Object, task: Task, known: Known | None = None) -> TaskObservation:
    """Everything that a plan for a task depends on; `known` from the step before saves reading the children."""
    around, now = world.surroundings, utc_now()
    parent = await world.shared.get(SUBNET, task.namespace, task.spec.subnet) if task.spec is not None else None
    subnet = parse_subnet(parent) if parent is not None else None
    if known is None or not known.fresh:
        wanted = subnet.spec.compute.backend if subnet is not None and subnet.spec is not None else None
        read_at = asyncio.get_running_loop().time()
        known = Known(await observe_children(world, task, wanted), read_at)
    children = known.children
    progress = world.progress.answer(key_of(obj))
    record = read_record(children.config_maps.get(names.result(task.name)))
    seen = TaskSeen(now=now, around=around, children=children, progress=progress, record=record, task_id=task.mirror_of)
    if task.spec is None:
        return TaskObservation(seen, None, known.read_at)
    observed = await _observe_on_chain(world, obj, task, task.spec, subnet, seen, record)
    return replace(observed, read_at=known.read_at)


async def _observe_on_chain(
    world: World,
    obj: Object,
    task: Task,
    spec: TaskSpec,
    subnet: SubnetObject | None,
    seen: TaskSeen,
    record: Record | None,
) -> TaskObservation:
    if subnet is None:
        return TaskObservation(replace(seen, problem=failures.no_subnet(task.namespace, spec.subnet)), None)
    if subnet.spec is None:
        return TaskObservation(replace(seen, problem=_bad_subnet(subnet)), None)
    member = await reach_member(world, task.namespace, subnet.spec, key_of(obj), task)
    if isinstance(member, Problem):
        return TaskObservation(replace(seen, problem=member), None)
    own = Own(subnet.name, subnet.uid, subnet.spec, member.address)
    try:
        decimals, _ = await member.mirror.token(spec.bounty.token or member.chain.consortium.stake_token)
    except ChainError as error:
        return TaskObservation(replace(seen, problem=failures.of_chain(error)), None)
    missing = () if record is not None else await _missing_claims(world, task, spec, subnet.spec)
    full = replace(
        seen, own=own, chain=member.chain, task_id=member.task_id, bounty_decimals=decimals, missing_claims=missing
    )
    return TaskObservation(full, member)


async def observe_children(world: World, task: Task, wanted: Backend | None = None) -> Children:
    """The task's own children; objects of others with our label are not ours.

    Args:
        world: the edges.
        task: the parent.
        wanted: back end that the Subnet names now; the one with which the task began counts more.
    """
    selector = f"{names.TASK}={task.name}"

    async def labelled(kind: Kind) -> list[Object]:
        return await world.kube.list_all(kind, task.namespace, selector)

    async def mine(kind: Kind) -> dict[str, Object]:
        return {name_of(child): child for child in await labelled(kind) if controlled_by(child, task.uid)}

    secrets = asyncio.gather(*(own_secret(world, task, of(task.name)) for of in (names.session, names.ray_token)))
    pods, services, policies, config_maps, claims, (session, token) = await asyncio.gather(
        labelled(POD), mine(SERVICE), mine(NETWORK_POLICY), mine(CONFIG_MAP), mine(CLAIM), secrets
    )
    ray_clusters: dict[str, Object] = {}
    no_kuberay = None
    if (read_ledger(config_maps.get(names.config(task.name))).backend or wanted) is Backend.KUBERAY:
        try:
            ray_clusters = await mine(RAY_CLUSTER)
        except ApiException as error:
            if error.status not in (NOT_FOUND, FORBIDDEN):
                raise
            no_kuberay = failures.no_kuberay(task.namespace, error.status == FORBIDDEN)
    owners = {task.uid, *(uid_of(cluster) for cluster in ray_clusters.values())}
    ours = {name_of(pod): pod for pod in pods if _is_ours(pod, task.name, owners)}
    return Children(
        pods=ours,
        services=services,
        policies=policies,
        config_maps=config_maps,
        claims=claims,
        ray_clusters=ray_clusters,
        no_kuberay=no_kuberay,
        session_address=session_address(session),
        ray_token=token is not None,
    )


def _is_ours(pod: Object, task: str, owners: set[str]) -> bool:
    """Also a pod that our finalizer keeps although its RayCluster has gone."""
    controller = controller_of(pod)
    if controller is None:
        return False
    left = (controller["kind"], controller["name"]) == (RAY_CLUSTER.kind, names.ray_cluster(task))
    return controller["uid"] in owners or (left and held(pod, names.HOLD))


async def own_secret(world: World, task: Task, name: str) -> Object | None:
    """A Secret of the task; a stranger's of that name does not count."""
    secret = await world.kube.get(SECRET, task.namespace, name)
    return secret if secret is not None and controlled_by(secret, task.uid) else None


def session_address(secret: Object | None) -> str | None:
    """The address of a task's session key; None if there is none, or none that can be read."""
    if secret is None:
        return None
    try:
        return wallet_key(read_entry(secret, SESSION_KEY))[1]
    except BadKeyError:
        return None  # a damaged key is as good as none: it is made anew and rotated on chain


async def _missing_claims(world: World, task: Task, spec: TaskSpec, subnet: SubnetSpec) -> tuple[str, ...]:
    matching = [one for one in subnet.datasets if one.schema_name == spec.data.schema_name]
    chosen = [one for one in matching if spec.participation.dataset in (None, one.name)]
    wanted = {subnet.storage.output_claim, *(one.claim_name for one in chosen[:1])}
    return tuple(sorted([name for name in wanted if await world.shared.get(CLAIM, task.namespace, name) is None]))


def _bad_subnet(subnet: SubnetObject) -> Problem:
    return Problem(Reason.SUBNET_NOT_READY, f'Subnet "{subnet.name}" has a spec that cannot be read: {subnet.invalid}')
