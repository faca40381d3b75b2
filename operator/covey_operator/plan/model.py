"""What a pass has seen, and what it decides: the values between observation and action."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

from covey_api.status import Condition, Reason
from covey_api.subnet import Role, SubnetSpec, SubnetStatus
from covey_api.task import TaskSpec, TaskStatus
from covey_chain.types import Consortium, Member, Participant, PublishedTask, SettlementState

from covey_operator.kinds import Object, name_of
from covey_operator.plan.pods import PodSettings
from covey_operator.plan.report import Progress, Record

ROLE_BITS = {Role.PLANNER: 1, Role.TRAINER: 2, Role.VALIDATOR: 4}


def role_bits(roles: Iterable[Role]) -> int:
    """Roles as the chain's bit field."""
    return sum(ROLE_BITS[role] for role in set(roles))


def role_names(bits: int) -> list[Role]:
    """The chain's bit field as roles."""
    return [role for role, bit in ROLE_BITS.items() if bits & bit]


@dataclass(frozen=True)
class Problem:
    """Something that a person must mend, or that passes by itself, with its remedy in words."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class TaskOnChain:
    """A task as the chain shows it."""

    published: PublishedTask
    participants: tuple[Participant, ...] = ()
    settlement: SettlementState | None = None
    claimed: Mapping[str, int] = field(default_factory=dict)  # member -> base units paid
    transactions: tuple[tuple[str, str, str], ...] = ()  # (purpose, member, 0x-hash)
    decimals: int = 18  # of the bounty's token
    symbol: str = ""
    medians: Mapping[str, int] | None = None  # member -> cumulative reward, of a task that was settled by medians

    def participant(self, address: str) -> Participant | None:
        """The participant with this owner address."""
        return next((one for one in self.participants if one.address.lower() == address.lower()), None)


@dataclass(frozen=True)
class ConsortiumOnChain:
    """A consortium as the chain shows it."""

    consortium: Consortium
    decimals: int
    symbol: str
    members: tuple[Member, ...]
    tasks: Mapping[bytes, TaskOnChain]
    block: int

    def member(self, address: str) -> Member | None:
        """The member with this owner address."""
        return next((member for member in self.members if member.address.lower() == address.lower()), None)


@dataclass(frozen=True)
class Own:
    """This member: its Subnet and its wallet's address."""

    name: str
    uid: str
    spec: SubnetSpec
    address: str


@dataclass(frozen=True)
class Task:
    """A FederatedTask as applied; `spec` is None when `invalid` says why it cannot be read."""

    namespace: str
    name: str
    uid: str
    generation: int
    mirror_of: bytes | None
    spec: TaskSpec | None
    invalid: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Children:
    """The task's children that exist, by name."""

    GROUPS: ClassVar[Mapping[str, str]] = {
        "Pod": "pods",
        "Service": "services",
        "NetworkPolicy": "policies",
        "ConfigMap": "config_maps",
        "PersistentVolumeClaim": "claims",
        "RayCluster": "ray_clusters",
    }

    pods: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)
    policies: Mapping[str, Object] = field(default_factory=dict)
    config_maps: Mapping[str, Object] = field(default_factory=dict)
    claims: Mapping[str, Object] = field(default_factory=dict)
    ray_clusters: Mapping[str, Object] = field(default_factory=dict)
    no_kuberay: Problem | None = None  # why RayClusters cannot be had, where they are wanted
    session_address: str | None = None
    ray_token: bool = False

    def find(self, kind: str, name: str) -> Object | None:
        """One of them."""
        group: Mapping[str, Object] = getattr(self, self.GROUPS[kind])
        return group.get(name)

    def having(self, written: Iterable[Object]) -> Children:
        """The same after these were written."""
        groups: dict[str, dict[str, Object]] = {}
        for child in written:
            group = self.GROUPS[child["kind"]]
            groups.setdefault(group, dict(getattr(self, group)))[name_of(child)] = child
        return replace(self, **groups)  # type: ignore[arg-type] # names of the fields above


@dataclass(frozen=True)
class Surroundings:
    """What the operator's own settings add to a plan."""

    operator_namespace: str
    monitoring_namespace: str
    pods: PodSettings
    resync_seconds: float
    error_retry_seconds: float


@dataclass(frozen=True)
class TaskSeen:
    """Everything that a pass over a task has read."""

    now: datetime
    around: Surroundings
    children: Children
    own: Own | None = None
    chain: ConsortiumOnChain | None = None
    task_id: bytes | None = None
    problem: Problem | None = None  # why `own` or `chain` cannot be had
    missing_claims: tuple[str, ...] = ()
    bounty_decimals: int = 18  # of the token that the spec names
    progress: Progress | None = None
    record: Record | None = None
    failure: Problem | None = None  # what an action of this pass ran into

    @property
    def on_chain(self) -> TaskOnChain | None:
        """The task as the chain shows it."""
        if self.chain is None or self.task_id is None:
            return None
        return self.chain.tasks.get(self.task_id)


# Actions: one outside effect each; a pass carries out at most one and looks again.


@dataclass(frozen=True)
class Publish:
    """Publish a task with its bounty in escrow."""

    spec: bytes
    token: str
    bounty: int
    min_members: int
    max_members: int
    rounds: int
    accept_by: int  # unix seconds
    deadline: int  # unix seconds
    answer_window: int  # seconds
    appeal_window: int  # seconds
    fallback_window: int  # seconds
    auditor: str | None
    salt: bytes


@dataclass(frozen=True)
class Accept:
    """Take part in a task, or tell the chain a new session key or end point."""

    roles: int
    endpoint: str


@dataclass(frozen=True)
class Withdraw:
    """Take back an acceptance before the start."""


@dataclass(frozen=True)
class Start:
    """Close the list of participants and begin."""


@dataclass(frozen=True)
class Cancel:
    """Cancel the own task; the bounty comes back."""


@dataclass(frozen=True)
class Expire:
    """End a task whose deadline has passed; what nobody earned comes back to its Planner."""


@dataclass(frozen=True)
class Claim:
    """Have the reward paid out."""

    cumulative: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class MakeSession:
    """Make the task's session key."""


@dataclass(frozen=True)
class MakeRayToken:
    """Make the token of the task's Ray cluster."""


@dataclass(frozen=True)
class MakeTls:
    """Make the member's TLS key and certificate."""


@dataclass(frozen=True)
class Register:
    """Join the consortium, or bring the entry up to date."""

    roles: int
    endpoint: str


@dataclass(frozen=True)
class RaiseStake:
    """Raise the stake to so many base units."""

    target: int


MakeSecret = MakeSession | MakeRayToken | MakeTls  # no transaction

Action = (
    Publish
    | Accept
    | Withdraw
    | Start
    | Cancel
    | Expire
    | Claim
    | MakeSession
    | MakeRayToken
    | MakeTls
    | Register
    | RaiseStake
)


@dataclass(frozen=True)
class TaskPlan:
    """What to do for a task now, and what to say."""

    status: TaskStatus
    action: Action | None = None
    apply: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    wake_seconds: float = 60.0
    watch_head: str | None = None  # address of the head pod whose validator is to be asked for progress
    problem: Problem | None = None


@dataclass(frozen=True)
class SubnetObject:
    """A Subnet as applied."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: SubnetSpec | None
    invalid: str
    conditions: tuple[Condition, ...]
    shown: SubnetStatus | None = None  # what was last written, if it can be read


@dataclass(frozen=True)
class Tls:
    """The member's certificate: DER, and SHA-256 of its SubjectPublicKeyInfo."""

    certificate: bytes
    key_hash: bytes


@dataclass(frozen=True)
class SubnetSeen:
    """Everything that a pass over a Subnet has read."""

    now: datetime
    around: Surroundings
    address: str | None = None
    chain: ConsortiumOnChain | None = None
    tls: Tls | None = None
    balance: int | None = None
    problem: Problem | None = None
    failure: Problem | None = None
    mirrored: frozenset[bytes] = frozenset()  # task ids that have an object here
    taken_names: frozenset[str] = frozenset()
    progress: tuple[Progress, ...] = ()  # of this Subnet's running tasks
    cut_off: tuple[str, ...] = ()  # those of them that have had the time to reach a peer and reach none
    unheard: bool = False  # whether one runs that this operator, just started, has not asked yet


@dataclass(frozen=True)
class SubnetPlan:
    """What to do for a Subnet now, and what to say."""

    status: SubnetStatus
    action: Action | None = None
    mirrors: tuple[Object, ...] = ()
    wake_seconds: float = 60.0
    unreadable: tuple[bytes, ...] = ()  # task ids whose terms this version does not understand
