"""`FederatedTask`: one model trained together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from covey_api.base import (
    Address,
    Amount,
    AnswerWindow,
    ApiModel,
    BelowOne,
    Count,
    Duration,
    FallbackWindow,
    Hash,
    LearningRate,
    Message,
    Name,
    OpenShare,
    PositiveDecimal,
    PositiveShare,
    Quantity,
    Rule,
    Share,
    Text,
    list_map,
)
from covey_api.incentives import IncentivesSpec
from covey_api.status import Condition, StatusModel


class Bounty(ApiModel):
    """What the Planner pays for the model."""

    amount: Annotated[Amount, Field(description="Amount in whole tokens; goes into escrow when the task is published.")]
    token: Annotated[Address | None, Field(description="ERC-20 token; default is the consortium's stake token.")] = None


class ProgramSpec(ApiModel):
    """The code that the members run on their data."""

    image: Annotated[
        str,
        Field(min_length=1, max_length=512, description="Worker image, best pinned by digest (name@sha256:…)."),
    ]
    entrypoint: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
            max_length=256,
            description="module:Class of the program inside the image.",
        ),
    ]
    config: Annotated[
        dict[str, Any],
        Field(
            max_length=64,
            description="Passed to the program as it is.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = {}


class DataSpec(ApiModel):
    """Which data the task needs."""

    schema_name: Annotated[
        Text, Field(alias="schema", min_length=1, description="Schema that a member's data set must follow.")
    ]


class MembersSpec(ApiModel):
    """How many members take part."""

    rules = (
        Rule(
            "self.min <= self.max",
            "members.min must not exceed members.max",
            lambda members: members.min <= members.max,
        ),
    )

    min: Annotated[int, Field(ge=1, le=64, description="The task starts with at least this many.")] = 2
    max: Annotated[int, Field(ge=1, le=64, description="No more than this many may join.")] = 16
    accept_within: Annotated[
        Duration, Field(description="How long members may join when more than min could still come.")
    ] = "24h"


class RoundsSpec(ApiModel):
    """How the task is cut into rounds."""

    count: Annotated[int, Field(ge=1, le=100_000, description="Number of rounds, at most.")]
    patience: Annotated[
        int | None,
        Field(
            ge=1,
            le=100_000,
            description="End the task after so many rounds in a row in which the median loss on the holdouts found no "
            "new low: nothing is left to learn then. Left out, all rounds are played.",
        ),
    ] = None
    local_steps: Annotated[
        int, Field(ge=1, le=100_000, description="Inner optimisation steps of a site in a round.")
    ] = 30
    deadline: Annotated[
        Duration, Field(description="A round closes after this time with the updates that are there.")
    ] = "10m"
    min_updates: Annotated[int, Field(ge=1, le=64, description="A round needs at least this many updates.")] = 2
    answer_window: Annotated[
        AnswerWindow,
        Field(description="How long members may answer a roll call on chain; then those who are away count no more."),
    ] = "1m"
    fallback_window: Annotated[
        FallbackWindow,
        Field(
            description="If no last result is settled at the task's deadline: how long members may commit to what all "
            "have earned, and as long again to reveal it, before the task expires."
        ),
    ] = "24h"
    settle_every: Annotated[
        int, Field(ge=1, le=1000, description="Rounds between two posts on chain; the last is always posted.")
    ] = 5


class ResourceSpec(ApiModel):
    """Resources of one worker pod (requests equal limits)."""

    cpu: Annotated[Quantity, Field(description="CPU cores.")] = "1"
    memory: Annotated[Quantity, Field(description="Memory.")] = "4Gi"


class WorkersSpec(ApiModel):
    """Ray workers at each site."""

    replicas: Annotated[int, Field(ge=1, le=256, description="Worker pods at each site.")] = 1
    gpus: Annotated[int, Field(ge=0, le=16, description="GPUs of each worker (nvidia.com/gpu).")] = 0
    resources: Annotated[ResourceSpec, Field(description="CPU and memory of each worker.")] = ResourceSpec()


class CodecName(StrEnum):
    """How updates are compressed."""

    SPARSE_LOCO = "SparseLoCo"
    DGC = "DGC"
    NONE = "None"


class Precision(StrEnum):
    """How a value is sent when all are."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class DgcSpec(ApiModel):
    """Deep Gradient Compression (arXiv:1712.01887)."""

    decay: Annotated[
        PositiveShare,
        Field(description="What a site keeps each round of what it has not sent yet; 1, as in the paper, keeps all."),
    ] = "0.95"
    momentum: Annotated[
        BelowOne,
        Field(description="Of a site's updates (momentum correction); makes steps up to 1/(1-momentum) times as long."),
    ] = "0"
    max_norm: Annotated[
        PositiveDecimal | None,
        Field(description="L2 norm to which a site clips its own update first; left out, it does not."),
    ] = None
    warmup_rounds: Annotated[
        int, Field(ge=0, le=100, description="Rounds in which the density falls exponentially to its value.")
    ] = 4


class CompressionSpec(ApiModel):
    """Codec of the updates."""

    rules = (
        Rule(
            "!has(self.dgc) || self.codec == 'DGC'",
            "compression.dgc needs codec DGC",
            lambda compression: compression.dgc is None or compression.codec is CodecName.DGC,
        ),
        Rule(
            "!has(self.precision) || self.codec == 'None'",
            "compression.precision needs codec None; the others have values of valueBits",
            lambda compression: compression.precision is None or compression.codec is CodecName.NONE,
        ),
    )

    codec: Annotated[
        CodecName,
        Field(
            description="SparseLoCo (error feedback, chunk-wise top-k, 2-bit values), DGC (momentum correction, top-k "
            "of the whole model, 2-bit values; for densities down to 0.1 %) or None (all values)."
        ),
    ] = CodecName.SPARSE_LOCO
    density: Annotated[
        PositiveShare, Field(description="Share of values that is sent, for example 1/64; codec None sends all.")
    ] = "1/64"
    value_bits: Annotated[
        int, Field(ge=2, le=2, description="Bits of a sent value; codec None has a precision instead.")
    ] = 2
    precision: Annotated[
        Precision | None, Field(description="Values of codec None: fp32 (if left out), fp16 or int8.")
    ] = None
    dgc: Annotated[DgcSpec | None, Field(description="Parameters of codec DGC; defaults if left out.")] = None


class AggregationRule(StrEnum):
    """How the clipped updates are put together."""

    MEAN = "Mean"


class ClipRule(StrEnum):
    """How the norm of a single update is limited."""

    MEDIAN_NORM = "MedianNorm"
    NONE = "None"


class AggregationSpec(ApiModel):
    """How updates become the next model."""

    rule: Annotated[AggregationRule, Field(description="Mean of the clipped updates.")] = AggregationRule.MEAN
    clip: Annotated[
        ClipRule,
        Field(
            description="MedianNorm clips every update to the median norm; None leaves them as they are, however large."
        ),
    ] = ClipRule.MEDIAN_NORM
    outer_learning_rate: Annotated[LearningRate, Field(description="Step along the mean update.")] = "0.7"


class ValidationSpec(ApiModel):
    """How updates are judged."""

    metric: Annotated[
        Text, Field(description="Metric of the program that status.metric shows; decisions use the loss.")
    ] = "loss"
    holdout_fraction: Annotated[
        OpenShare, Field(description="Share of a member's records kept out of training and used to score.")
    ] = "0.2"
    min_holdout: Annotated[
        int, Field(ge=1, le=1_000_000_000, description="A site with fewer holdout records abstains from scoring.")
    ] = 100
    margin: Annotated[
        Share,
        Field(description="A round is discarded when it makes the median loss worse by more than this share."),
    ] = "0.01"


class Decision(StrEnum):
    """A member's own answer to a task."""

    JOIN = "Join"
    DECLINE = "Decline"


class ParticipationSpec(ApiModel):
    """The local member's own answer; on a mirrored task the only part that people edit besides `suspend`."""

    decision: Annotated[Decision | None, Field(description="Join or Decline.")] = None
    dataset: Annotated[Name | None, Field(description="Data set to use when several follow the schema.")] = None
    workers: Annotated[
        int | None,
        Field(
            ge=1,
            le=256,
            description="Worker pods here, instead of the task's workers.replicas; may change while the task runs: the "
            "head then starts anew and goes on from the last certified round.",
        ),
    ] = None


# What the chain fixes at publication. `subnet`, `suspend` and `participation` are local and never published.
PUBLISHED_FIELDS = (
    "program",
    "data",
    "members",
    "rounds",
    "workers",
    "compression",
    "aggregation",
    "validation",
    "incentives",
)


ENOUGH_FOR_A_ROUND = Rule(
    "self.rounds.minUpdates <= self.members.min",
    "rounds.minUpdates must not exceed members.min: a task of members.min members could never close a round",
    lambda spec: spec.rounds.min_updates <= spec.members.min,
)


class TaskSpec(ApiModel):
    """Desired task."""

    rules = (
        *(
            Rule(
                f"self.{field} == oldSelf.{field}",
                f"{field} is immutable: the terms of a task are on chain; apply a new task instead",
            )
            for field in ("subnet", "bounty", *PUBLISHED_FIELDS)
        ),
        ENOUGH_FOR_A_ROUND,
    )

    subnet: Annotated[Name, Field(description="Subnet in this namespace through which the task is published.")]
    bounty: Annotated[Bounty, Field(description="What the Planner pays.")]
    program: Annotated[ProgramSpec, Field(description="The code that the members run.")]
    data: Annotated[DataSpec, Field(description="The data that it needs.")]
    members: Annotated[MembersSpec, Field(description="How many members take part.")] = MembersSpec()
    rounds: Annotated[RoundsSpec, Field(description="Rounds.")]
    workers: Annotated[WorkersSpec, Field(description="Ray workers at each site.")] = WorkersSpec()
    compression: Annotated[CompressionSpec, Field(description="Codec of the updates.")] = CompressionSpec()
    aggregation: Annotated[AggregationSpec, Field(description="How updates become the next model.")] = AggregationSpec()
    validation: Annotated[ValidationSpec, Field(description="How updates are judged.")] = ValidationSpec()
    incentives: Annotated[IncentivesSpec, Field(description="How members are penalised and paid.")] = IncentivesSpec()
    suspend: Annotated[bool, Field(description="Frees the local pods and keeps their state.")] = False
    participation: Annotated[ParticipationSpec, Field(description="The local member's own answer.")] = (
        ParticipationSpec()
    )

    @property
    def local_workers(self) -> int:
        """Worker pods at this member: its own wish, or what the terms say."""
        return self.participation.workers or self.workers.replicas


class Phase(StrEnum):
    """A word for people, derived from the conditions; programs read the conditions."""

    PENDING = "Pending"
    AWAITING_APPROVAL = "AwaitingApproval"
    DECLINED = "Declined"
    RECRUITING = "Recruiting"
    STARTING = "Starting"
    TRAINING = "Training"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ModelStatus(ApiModel):
    """The finished model."""

    digest: Annotated[Hash, Field(description="BLAKE3 of names, shapes and float32 values in sorted order.")]
    location: Annotated[Text, Field(description="Where it lies: claim/path.")]


class TransactionStatus(ApiModel):
    """A transaction that this member sent for the task."""

    purpose: Annotated[Text, Field(description="publish, accept, start, result or claim.")]
    hash: Annotated[Hash, Field(description="Transaction hash.")]


class TaskStatus(StatusModel):
    """Observed task."""

    observed_generation: Annotated[
        Count | None, Field(description="Generation of the spec that this status speaks of.")
    ] = None
    phase: Annotated[Phase | None, Field(description="One word for people; derived.")] = None
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra=list_map("type"),
            description="Published, Accepted, ClusterReady, Training, GoodStanding, Settled, Succeeded, Failed.",
        ),
    ] = []
    task_id: Annotated[Hash | None, Field(description="Id on chain.")] = None
    planner: Annotated[Address | None, Field(description="Owner address of the Planner.")] = None
    round: Annotated[Count | None, Field(description="Rounds done.")] = None
    rounds: Annotated[Text | None, Field(description="Rounds done of all, for people: 7/20.")] = None
    members: Annotated[
        Text | None, Field(description="Accepted of maximum, or reachable of participants, for people: 3/3.")
    ] = None
    loss: Annotated[Text | None, Field(description="Median holdout loss of the newest model.")] = None
    metric: Annotated[
        Text | None, Field(description="The metric of spec.validation.metric on this member's holdout: auc=0.98.")
    ] = None
    metrics: Annotated[dict[str, Text], Field(max_length=32, description="Metrics on this member's holdout.")] = {}
    bytes_sent: Annotated[
        Count | None, Field(description="Exchange bytes that this member sent, framing included.")
    ] = None
    compression_ratio: Annotated[
        Text | None,
        Field(description="float32 bytes of the updates by their bytes as sent, for people: 103x."),
    ] = None
    eta: Annotated[Text | None, Field(description="Estimated time left.")] = None
    reward: Annotated[Amount | None, Field(description="Reward of this member, in whole tokens, rounded down.")] = None
    claimed: Annotated[Amount | None, Field(description="Part of the reward that has been paid.")] = None
    held: Annotated[Text | None, Field(description="Part of this member's stake that is held: 0.5 %.")] = None
    slashed: Annotated[Text | None, Field(description="Part of this member's stake that was slashed: 31.5 %.")] = None
    restarts: Annotated[Count | None, Field(description="How often the head pod was started again.")] = None
    model: Annotated[ModelStatus | None, Field(description="The finished model.")] = None
    transactions: Annotated[
        list[TransactionStatus], Field(max_length=32, description="Transactions of this member for the task.")
    ] = []
    message: Annotated[Message | None, Field(description="What happens now or what to do, in words.")] = None
