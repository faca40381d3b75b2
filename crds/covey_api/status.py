"""Conditions and their reasons: one closed list (Kubernetes API conventions, "Typical status properties")."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from covey_api.base import ApiModel, Count


class ConditionStatus(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Every reason that a condition can have. Each has a section in docs/reference/reasons.md."""

    # normal life
    AS_EXPECTED = "AsExpected"
    PENDING = "Pending"
    NOT_STARTED = "NotStarted"
    AWAITING_APPROVAL = "AwaitingApproval"
    AWAITING_MEMBERS = "AwaitingMembers"
    ACCEPTED_BY_POLICY = "AcceptedByPolicy"
    ACCEPTED_BY_PERSON = "AcceptedByPerson"
    ROUNDS_RUNNING = "RoundsRunning"
    ROUNDS_DONE = "RoundsDone"
    SETTLING = "Settling"
    SETTLED_ON_CHAIN = "SettledOnChain"
    REWARD_CLAIMED = "RewardClaimed"
    SUSPENDED = "Suspended"
    HELPS_AS_OTHERS_DO = "HelpsAsOthersDo"
    # a member's own decision or rule
    DECLINED_BY_PERSON = "DeclinedByPerson"
    NOT_A_TRAINER = "NotATrainer"
    IMAGE_NOT_ALLOWED = "ImageNotAllowed"
    IMAGE_NOT_PINNED = "ImageNotPinned"
    SPONSOR_NOT_ALLOWED = "SponsorNotAllowed"
    TOO_MANY_ROUNDS = "TooManyRounds"
    TOO_MANY_WORKERS = "TooManyWorkers"
    UNKNOWN_DATA_SCHEMA = "UnknownDataSchema"
    DATASET_AMBIGUOUS = "DatasetAmbiguous"
    # the spec or the surroundings need a person
    INVALID_SPEC = "InvalidSpec"
    SUBNET_NOT_FOUND = "SubnetNotFound"
    SUBNET_NOT_READY = "SubnetNotReady"
    NOT_A_PLANNER = "NotAPlanner"
    WALLET_SECRET_NOT_FOUND = "WalletSecretNotFound"
    BAD_WALLET_KEY = "BadWalletKey"
    SIGNER_UNAVAILABLE = "SignerUnavailable"
    SIGNER_REFUSED = "SignerRefused"
    RPC_UNAVAILABLE = "RpcUnavailable"
    WRONG_CHAIN = "WrongChain"
    NO_CONTRACT = "NoContract"
    CONSORTIUM_NOT_FOUND = "ConsortiumNotFound"
    INSUFFICIENT_FUNDS = "InsufficientFunds"
    TRANSACTION_REVERTED = "TransactionReverted"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    PODS_UNSCHEDULABLE = "PodsUnschedulable"
    PODS_STARTING = "PodsStarting"
    PODS_CRASHING = "PodsCrashing"
    NAME_CONFLICT = "NameConflict"
    CHILD_REFUSED = "ChildRefused"
    KUBERAY_MISSING = "KubeRayMissing"
    ENDPOINT_PENDING = "EndpointPending"
    PEERS_UNREACHABLE = "PeersUnreachable"
    # what the incentive rule makes of a task and of a member
    SHORT_TASK = "ShortTask"
    STAKE_HELD = "StakeHeld"
    STAKE_SLASHED = "StakeSlashed"
    REMOVED_FOR_QUALITY = "RemovedForQuality"
    # what ends a task
    ENTRYPOINT_NOT_FOUND = "EntrypointNotFound"
    PROGRAM_ERROR = "ProgramError"
    DATA_INVALID = "DataInvalid"
    BASE_MODEL_MISMATCH = "BaseModelMismatch"
    HOLDOUT_TOO_SMALL = "HoldoutTooSmall"
    CANCELLED_BY_PLANNER = "CancelledByPlanner"
    NOT_ENOUGH_MEMBERS = "NotEnoughMembers"
    STARTED_WITHOUT_US = "StartedWithoutUs"
    DEADLINE_PASSED = "DeadlinePassed"
    NO_QUORUM = "NoQuorum"
    SETTLED_BY_MEDIANS = "SettledByMedians"
    MODEL_MISMATCH = "ModelMismatch"


class Condition(ApiModel):
    """One observation (meta/v1 Condition)."""

    type: Annotated[str, Field(max_length=64, description="What is observed.")]
    status: Annotated[ConditionStatus, Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=64, description="Why, in one word; see docs/reference/reasons.md.")]
    message: Annotated[str, Field(max_length=4096, description="Why, for a person, and what to do.")] = ""
    observed_generation: Annotated[Count | None, Field(description="Generation that this condition speaks of.")] = None
    last_transition_time: Annotated[str, Field(max_length=32, description="When the status last changed (RFC 3339).")]


class StatusModel(ApiModel):
    """A status that one manager writes by server-side apply."""

    def wire(self) -> dict[str, Any]:
        """The JSON form; what is None or empty is left out.

        An empty map or list that had items before becomes null on the API server (structured-merge-diff), which the
        schema refuses.
        """
        return {name: value for name, value in super().wire().items() if value not in ({}, [])}
