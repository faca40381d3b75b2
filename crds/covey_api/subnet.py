"""`Subnet`: a member's seat in one consortium."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from covey_api.base import (
    LIST_SET,
    MAX_COUNT,
    Address,
    Amount,
    ApiModel,
    Count,
    LocalSecretRef,
    Name,
    ObjectName,
    Quantity,
    Rule,
    SecretKey,
    Text,
    Toleration,
    list_map,
)
from covey_api.status import Condition, StatusModel
from covey_api.windows import EgressWindow


class Role(StrEnum):
    """What a member may do in its consortium."""

    PLANNER = "Planner"
    TRAINER = "Trainer"
    VALIDATOR = "Validator"


HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://.+$", max_length=512)]


class WalletSecret(LocalSecretRef):
    """The Secret with the owner key, in the clear or as a keystore."""

    password_key: Annotated[
        SecretKey | None,
        Field(
            description=(
                "Key inside the Secret with a keystore's password; with it, `key` holds a keystore (Web3 Secret "
                "Storage, version 3) instead of 0x and 64 hex digits."
            )
        ),
    ] = None


class ExternalSigner(ApiModel):
    """A signer that holds the owner key outside of the cluster."""

    url: Annotated[HttpUrl, Field(description="JSON-RPC end point with `eth_signTransaction` as of Web3Signer.")]
    address: Annotated[Address, Field(description="Owner address; the signer holds its key.")]


class ChainSpec(ApiModel):
    """How the member reaches the chain on which its consortium lives."""

    rules = (
        Rule(
            "has(self.walletSecret) != has(self.signer)",
            "give either walletSecret or signer, not both",
            lambda chain: (chain.wallet_secret is None) != (chain.signer is None),
        ),
    )

    rpc_url: Annotated[HttpUrl, Field(description="JSON-RPC end point of an EVM node that the member trusts.")]
    fallback_rpc_urls: Annotated[
        list[HttpUrl],
        Field(
            max_length=4,
            json_schema_extra=LIST_SET,
            description=(
                "Further nodes of the same chain, asked in this order while those before them do not answer or have "
                "fallen behind."
            ),
        ),
    ] = []
    chain_id: Annotated[
        int, Field(ge=1, le=MAX_COUNT, description="EIP-155 chain id; a node of another chain is refused.")
    ]
    contract: Annotated[
        Address,
        Field(description="Address of the consortium's Settlement contract; the others are found from it."),
    ]
    wallet_secret: Annotated[
        WalletSecret | None, Field(description="Secret with the owner key (0x and 64 hex digits), or its keystore.")
    ] = None
    signer: Annotated[
        ExternalSigner | None, Field(description="Signs in the owner's name instead; the key is not in the cluster.")
    ] = None
    confirmations: Annotated[int, Field(ge=1, le=256, description="Blocks after which a transaction counts.")] = 1

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        """All nodes, the preferred one first."""
        return (self.rpc_url, *self.fallback_rpc_urls)


class ServiceType(StrEnum):
    """How the exchange port is published (core/v1 ServiceType)."""

    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    CLUSTER_IP = "ClusterIP"


class ExchangeService(ApiModel):
    """The Service in front of a task's validator."""

    type: Annotated[ServiceType, Field(description="NodePort, LoadBalancer or ClusterIP.")] = ServiceType.NODE_PORT
    node_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Fixed node port; with it only one task at a time can run in this Subnet.",
        ),
    ] = None


class ExchangeSpec(ApiModel):
    """How other members reach this one."""

    advertise: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
            min_length=1,
            max_length=259,
            description=(
                "Host name or address that other members dial; with a port, that port, otherwise the Service's."
            ),
        ),
    ]
    service: Annotated[ExchangeService, Field(description="The Service in front of the validators.")] = (
        ExchangeService()
    )
    max_egress_mbps: Annotated[
        int | None,
        Field(ge=1, le=1_000_000, description="Upper limit of outgoing exchange traffic, in Mbit/s."),
    ] = None
    windows: Annotated[
        list[EgressWindow],
        Field(
            max_length=16,
            description="Hours of the week with a limit that takes the place of `maxEgressMbps`; first match wins.",
        ),
    ] = []


INSIDE_THE_VOLUME = Rule(
    "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
    "must be a relative path inside the volume, without '..'",
    lambda path: not path.startswith("/") and ".." not in path.split("/"),
)


class Dataset(ApiModel):
    """A data set that this member may train on. It never leaves the cluster."""

    name: Annotated[Name, Field(description="Name by which tasks and people choose it.")]
    schema_name: Annotated[
        Text,
        Field(alias="schema", min_length=1, description="Schema that the records follow; a task asks for one."),
    ]
    claim_name: Annotated[
        Text, Field(min_length=1, description="PersistentVolumeClaim in this namespace; mounted read-only.")
    ]
    path: Annotated[str, Field(max_length=512, description="Folder inside the volume."), INSIDE_THE_VOLUME] = ""


class Approval(StrEnum):
    """Who answers for this member when a task is offered."""

    MANUAL = "Manual"
    AUTOMATIC = "Automatic"


class PolicySpec(ApiModel):
    """What the data owner lets happen. A task that breaks a rule is declined with the reason."""

    approval: Annotated[Approval, Field(description="Automatic joins a task that fits; Manual waits for a person.")] = (
        Approval.MANUAL
    )
    images: Annotated[
        list[Annotated[str, Field(max_length=512)]],
        Field(
            max_length=64,
            json_schema_extra=LIST_SET,
            description="Program images that may touch the data: names with * and ?; empty allows all.",
        ),
    ] = []
    sponsors: Annotated[
        list[Address],
        Field(
            max_length=256,
            json_schema_extra=LIST_SET,
            description="Planners whose tasks are considered; empty allows all members.",
        ),
    ] = []
    max_rounds: Annotated[int | None, Field(ge=1, le=100_000, description="Largest number of rounds.")] = None
    max_workers: Annotated[
        int | None, Field(ge=1, le=256, description="Largest number of worker pods of one task.")
    ] = None
    require_digest: Annotated[bool, Field(description="Refuse program images that are not pinned by digest.")] = True


class Backend(StrEnum):
    """What runs the Ray cluster."""

    PODS = "Pods"
    KUBERAY = "KubeRay"


class ComputeSpec(ApiModel):
    """Where and with what the member's pods run."""

    backend: Annotated[
        Backend,
        Field(
            description=(
                "Pods: the operator makes the pods itself. KubeRay: it makes a RayCluster, and KubeRay (1.7 or later) "
                "the pods. A task keeps the back end with which it began."
            )
        ),
    ] = Backend.PODS
    queue: Annotated[
        Name | None, Field(description="Kueue's LocalQueue for the pods, or for the RayCluster as a whole.")
    ] = None
    runtime_class_name: Annotated[ObjectName | None, Field(description="RuntimeClass of the worker pods.")] = None
    priority_class_name: Annotated[ObjectName | None, Field(description="PriorityClass of all pods.")] = None
    node_selector: Annotated[dict[str, Text], Field(max_length=32, description="Node selector of all pods.")] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=32, description="Tolerations of all pods.")] = []


class StorageSpec(ApiModel):
    """Volumes of the member's validators."""

    state_class_name: Annotated[
        Text | None,
        Field(
            description=(
                "StorageClass of the volume that keeps model, residual and votes of a task; default class if unset."
            )
        ),
    ] = None
    state_size: Annotated[Quantity, Field(description="Size of that volume.")] = "1Gi"
    output_claim: Annotated[
        Text, Field(min_length=1, description="PersistentVolumeClaim that receives finished models.")
    ]


class SubnetSpec(ApiModel):
    """Desired membership in one consortium."""

    rules = (
        Rule(
            "self.consortium == oldSelf.consortium",
            "consortium is immutable: make another Subnet to join another consortium",
        ),
    )

    consortium: Annotated[Name, Field(description="Name of the consortium on chain.")]
    chain: Annotated[ChainSpec, Field(description="The chain that keeps the consortium's register and money.")]
    stake: Annotated[
        Amount,
        Field(description="Stake to hold, in whole tokens; topped up by the operator, never withdrawn by it."),
    ] = "0"
    roles: Annotated[
        list[Role],
        Field(
            min_length=1,
            max_length=3,
            json_schema_extra=LIST_SET,
            description="What this member does: Planner, Trainer, Validator.",
        ),
    ] = [Role.TRAINER, Role.VALIDATOR]
    exchange: Annotated[ExchangeSpec, Field(description="How other members reach this one.")]
    datasets: Annotated[
        list[Dataset],
        Field(max_length=64, json_schema_extra=list_map("name"), description="Data sets that tasks may use."),
    ] = []
    policy: Annotated[PolicySpec, Field(description="What the data owner allows.")] = PolicySpec()
    compute: Annotated[ComputeSpec, Field(description="Where the pods run.")] = ComputeSpec()
    storage: Annotated[StorageSpec, Field(description="Volumes for state and finished models.")]


class SubnetMember(ApiModel):
    """A member of the consortium, as the chain shows it."""

    address: Annotated[Address, Field(description="Owner address.")]
    roles: Annotated[list[Role], Field(max_length=3, description="Roles.")]
    stake: Annotated[Amount, Field(description="Stake in whole tokens.")]


class SubnetStatus(StatusModel):
    """Observed membership."""

    observed_generation: Annotated[
        Count | None, Field(description="Generation of the spec that this status speaks of.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra=list_map("type"),
            description="Ready, Registered, Staked, ExchangeReachable, ChainSynced.",
        ),
    ] = []
    address: Annotated[Address | None, Field(description="The member's owner address.")] = None
    stake: Annotated[Amount | None, Field(description="Stake held on chain, in whole tokens.")] = None
    held: Annotated[Amount | None, Field(description="Part of the stake held back provisionally.")] = None
    earned: Annotated[Amount | None, Field(description="Rewards claimed so far, in whole tokens, rounded down.")] = None
    slashed: Annotated[Amount | None, Field(description="Stake lost for good.")] = None
    balance: Annotated[Amount | None, Field(description="Free tokens in the wallet.")] = None
    block: Annotated[
        Count | None,
        Field(description="Last block that the chain mirror has read; moves only when something changed."),
    ] = None
    members: Annotated[
        list[SubnetMember],
        Field(max_length=256, json_schema_extra=list_map("address"), description="Members of the consortium."),
    ] = []
