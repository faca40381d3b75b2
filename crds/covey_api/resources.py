"""The resources of the API: their names, their models, and what `kubectl get` shows of them."""

from __future__ import annotations

from dataclasses import dataclass

from covey_api import GROUP
from covey_api.base import ApiModel
from covey_api.subnet import SubnetSpec, SubnetStatus
from covey_api.task import TaskSpec, TaskStatus


@dataclass(frozen=True)
class Column:
    """A printer column; `wide` ones appear with `-o wide` only."""

    name: str
    json_path: str
    description: str
    type: str = "string"
    wide: bool = False


AGE = Column("Age", ".metadata.creationTimestamp", "Time since creation.", type="date")


@dataclass(frozen=True)
class Resource:
    """One namespaced resource with a status subresource."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[ApiModel]
    status: type[ApiModel]
    columns: tuple[Column, ...]

    @property
    def singular(self) -> str:
        """Lower-case kind."""
        return self.kind.lower()

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


SUBNET = Resource(
    kind="Subnet",
    plural="subnets",
    short_names=("sn",),
    description="A member's seat in one consortium: its wallet, stake, roles, data sets and rules.",
    spec=SubnetSpec,
    status=SubnetStatus,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether this member can take part in tasks."),
        Column("Consortium", ".spec.consortium", "Name of the consortium on chain."),
        Column("Address", ".status.address", "The member's owner address.", wide=True),
        Column("Stake", ".status.stake", "Stake held on chain, in whole tokens."),
        Column("Earned", ".status.earned", "Rewards claimed so far, in whole tokens."),
        AGE,
    ),
)

FEDERATED_TASK = Resource(
    kind="FederatedTask",
    plural="federatedtasks",
    short_names=("ft",),
    description="One model that members of a consortium train together, each on data that stay at home.",
    spec=TaskSpec,
    status=TaskStatus,
    columns=(
        Column("Phase", ".status.phase", "One word for people."),
        Column("Round", ".status.rounds", "Rounds done of all."),
        Column("Members", ".status.members", "Members that take part."),
        Column("Loss", ".status.loss", "Median holdout loss of the newest model."),
        Column("Metric", ".status.metric", "The metric that the task names, on this member's holdout."),
        Column("Ratio", ".status.compressionRatio", "How much smaller the updates are than float32."),
        Column("ETA", ".status.eta", "Estimated time left."),
        Column("Reward", ".status.reward", "Reward of this member, in whole tokens."),
        AGE,
    ),
)

RESOURCES = (SUBNET, FEDERATED_TASK)
