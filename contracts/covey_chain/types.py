"""What the contracts know, as values. Signed structures mirror `contracts/src/Settlement.sol` (EIP-712)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag

ZERO_HASH = bytes(32)
ZERO_ADDRESS = "0x" + "00" * 20
# Of TaskMarket: from publication to deadline.
MAX_TASK_SECONDS = 2 * 366 * 86_400


class Role(IntFlag):
    """Roles of a member, as the registry stores them."""

    PLANNER = 1
    TRAINER = 2
    VALIDATOR = 4


class TaskStatus(IntEnum):
    """Life of a task in the market."""

    NONE = 0
    OPEN = 1
    STARTED = 2
    FINISHED = 3
    CANCELLED = 4


class VoteKind(IntEnum):
    """Kind of a vote (Tendermint, arXiv:1807.04938)."""

    PREVOTE = 1
    PRECOMMIT = 2


class Step(IntEnum):
    """What an agreement of a round is about."""

    UPDATES = 0
    SCORES = 1


@dataclass(frozen=True)
class Block:
    """A block as far as it tells histories apart; hashes of 32 bytes."""

    number: int
    hash: bytes
    parent: bytes


@dataclass(frozen=True)
class Consortium:
    """A consortium; `id` is keccak256 of its name."""

    id: bytes
    name: str
    creator: str
    stake_token: str
    min_stake: int
    admission: int
    unbonding_seconds: int


@dataclass(frozen=True)
class Member:
    """A member of a consortium; `certificate` is DER and comes from the newest MemberJoined or MemberUpdated event.

    So much of `stake` and `unbonding` together as tasks have `held` for quality cannot leave.
    """

    address: str
    roles: Role
    tls_key_hash: bytes
    endpoint: str
    metadata_hash: bytes
    certificate: bytes
    stake: int
    unbonding: int
    joined_block: int
    held: int = 0


@dataclass(frozen=True)
class PublishedTask:
    """A task of the market; `spec` is the canonical terms, checked against `spec_hash` by keccak256.

    Without an `auditor` there are no appeals; `appeal_window` is in seconds after the last result, `fallback_window`
    after the deadline.
    """

    task_id: bytes
    consortium: bytes
    planner: str
    spec_hash: bytes
    spec: bytes
    token: str
    bounty: int
    min_members: int
    max_members: int
    rounds: int
    accept_by: int
    deadline: int
    answer_window: int
    status: TaskStatus
    block: int
    appeal_window: int = 0
    auditor: str | None = None
    fallback_window: int = 0


@dataclass(frozen=True)
class Participant:
    """A member that accepted a task; `stake` is the snapshot once the task has started, the present stake before.

    Who was `expelled` for a proven fault keeps the snapshot, which counts no more; who is `removed` for quality
    counts where it counts already, and answers no later roll call. `place` is where the market lists it: sets of
    members and ledgers of penalties go by it.
    """

    place: int
    address: str
    roles: Role
    session_key: str
    endpoint: str
    stake: int
    tls_key_hash: bytes
    certificate: bytes
    expelled: bool = False
    removed: bool = False


@dataclass(frozen=True)
class SettlementState:
    """What has been settled of a task; `round` is 0 before the first result (rounds on chain count from 1)."""

    round: int
    model_digest: bytes
    reward_root: bytes
    total_reward: int
    last: bool


@dataclass(frozen=True)
class Penalty:
    """What a member has lost in a task for the quality of its updates; amounts in base units of the stake token.

    Attributes:
        place: in the participants of the task, as the market lists them; at most 255.
        removed: it answers no later roll call.
        appealing: an appeal protects what is held.
        held: cannot leave, and may come back.
        slashed: burnt; never decreases.
    """

    place: int
    removed: bool
    appealing: bool
    held: int
    slashed: int


@dataclass(frozen=True)
class Holdout:
    """What a member has bound itself to before the start: so many `records` under one Merkle `root` of 32 bytes."""

    root: bytes
    records: int


@dataclass(frozen=True)
class PostedVerdict:
    """An auditor's word as the chain has it; `findings` are the bytes that the auditor has signed the hash of."""

    epoch: int
    authentic: bool
    findings: bytes
    block: int


@dataclass(frozen=True)
class Appeal:
    """A member's appeal in a task: when it was filed, if it was, and the newest verdict, if there is one."""

    filed_block: int | None
    verdict: PostedVerdict | None


@dataclass(frozen=True)
class PendingCall:
    """A roll call that is not over.

    Attributes:
        epoch: the one that it will begin.
        closes_at: when it may be closed, in seconds since 1970; None while too little stake has answered.
        answers: member -> evidence, in the order of the chain.
    """

    epoch: int
    closes_at: int | None
    answers: Mapping[str, bytes]


@dataclass(frozen=True)
class EndedCall:
    """What a roll call has decided; the same for all who ask, whenever they do.

    Attributes:
        epoch: the one that it began.
        active: member -> snapshotted stake, of those who count in it, whoever has been expelled since.
        answers: member -> evidence, in the order of the chain.
    """

    epoch: int
    active: Mapping[str, int]
    answers: Mapping[str, bytes]


@dataclass(frozen=True)
class RollCallState:
    """Whose stake counts in a started task (ADR 0008).

    Attributes:
        epoch: the newest.
        active: member -> snapshotted stake, of those who count in it; who was expelled does not.
        answers: member -> evidence, of the roll call that began it; empty for epoch 0.
        call: the next roll call, once somebody has answered it.
    """

    epoch: int
    active: Mapping[str, int]
    answers: Mapping[str, bytes]
    call: PendingCall | None


@dataclass(frozen=True)
class UpdateHeader:
    """What a site signs about its update of a round."""

    task_id: bytes
    round: int
    attempt: int
    site: str
    base: bytes
    codec: bytes
    length: int
    root: bytes
    samples: int


@dataclass(frozen=True)
class Proposal:
    """A proposer's value for one view of an agreement."""

    task_id: bytes
    round: int
    step: int
    view: int
    valid_view: int
    value: bytes
    site: str


@dataclass(frozen=True)
class Vote:
    """A prevote or precommit; `value` of zeros is nil."""

    task_id: bytes
    round: int
    step: int
    view: int
    kind: int
    value: bytes
    site: str


@dataclass(frozen=True)
class ScoreCommit:
    """Binds a site to its scores before it has seen those of others."""

    task_id: bytes
    round: int
    site: str
    commitment: bytes


@dataclass(frozen=True)
class ScoreReveal:
    """Opens a commitment."""

    task_id: bytes
    round: int
    site: str
    salt: bytes
    scores_hash: bytes


@dataclass(frozen=True)
class RoundResult:
    """What more than 2/3 of the stake of an epoch sign about a round; rewards and penalties are cumulative.

    `penalties` is keccak256 of their ledger (`covey_chain.penalties`), or zeros if nobody was ever penalised.
    """

    task_id: bytes
    round: int
    epoch: int
    model_digest: bytes
    updates_root: bytes
    scores_root: bytes
    reward_root: bytes
    penalties: bytes
    total_reward: int
    accepted: bool
    last: bool


@dataclass(frozen=True)
class RollCall:
    """Answers the roll call that begins an epoch; whoever signs it signs nothing more in an earlier one.

    `evidence_hash` is keccak256 of the evidence: what the site knows to be locked (ADR 0008).
    """

    task_id: bytes
    epoch: int
    site: str
    evidence_hash: bytes


@dataclass(frozen=True)
class AuditVerdict:
    """What an auditor signs about the records that a member has opened.

    `epoch` is one of the incentive rule, from 1; the findings behind `findings_hash` (keccak256) are of all up to it.
    """

    task_id: bytes
    member: str
    epoch: int
    authentic: bool
    findings_hash: bytes


# Of these a site may sign one for each slot: two prove that it has lied.
Provable = UpdateHeader | Proposal | Vote
Signable = UpdateHeader | Proposal | Vote | ScoreCommit | ScoreReveal | RoundResult | RollCall
# All that is signed; a verdict is not sent between sites.
Statement = Signable | AuditVerdict


def round_of(body: Signable) -> int | None:
    """The round that a message is about; None for a roll call, which is about an epoch."""
    return None if isinstance(body, RollCall) else body.round


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined; None for the hash when an intent was found already fulfilled."""

    tx_hash: str | None
    block: int
    gas_used: int


@dataclass(frozen=True)
class Deployment:
    """Addresses of a deployed set of contracts; `settlement` is the entry, and has made its fallback."""

    settlement: str
    registry: str
    market: str
    token: str
