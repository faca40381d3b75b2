"""Values for plans: a Subnet, a task, and a chain that never was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from covey_api.subnet import SubnetSpec
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_chain.types import (
    Consortium,
    Member,
    Participant,
    PublishedTask,
    Role,
    SettlementState,
    TaskStatus,
)
from covey_operator.plan.model import (
    Children,
    ConsortiumOnChain,
    Own,
    SubnetObject,
    SubnetSeen,
    Surroundings,
    Task,
    TaskOnChain,
    TaskSeen,
    Tls,
)
from covey_operator.plan.pods import PodSettings

OWN = "0x" + "aa" * 20
OTHER = "0x" + "bb" * 20
TOKEN_ADDRESS = "0x" + "cc" * 20
SESSION = "0x" + "dd" * 20
TASK_ID = bytes(range(32))
UNIT = 10**18
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
IMAGE = "registry.example/wdbc@sha256:" + "1" * 64

PODS = PodSettings("registry.example/covey:1", "IfNotPresent", (), "200m", "1536Mi", "200m", "1Gi")
AROUND = Surroundings("covey-system", "", PODS, resync_seconds=120, error_retry_seconds=60)


def subnet_spec(**changes: Any) -> SubnetSpec:
    spec = {
        "consortium": "oncology-eu",
        "chain": {
            "rpcUrl": "http://10.66.0.1:8545",
            "chainId": 31337,
            "contract": "0x" + "12" * 20,
            "walletSecret": {"name": "wallet"},
        },
        "stake": "1000",
        "roles": ["Planner", "Trainer", "Validator"],
        "exchange": {"advertise": "10.66.0.11"},
        "datasets": [{"name": "wdbc", "schema": "wdbc-v1", "claimName": "data", "path": "part-1"}],
        "policy": {"approval": "Automatic"},
        "storage": {"outputClaim": "models"},
    }
    return SubnetSpec.model_validate({**spec, **changes})


def task_spec(**changes: Any) -> TaskSpec:
    spec = {
        "subnet": "eu",
        "bounty": {"amount": "200"},
        "program": {"image": IMAGE, "entrypoint": "wdbc.program:Program"},
        "data": {"schema": "wdbc-v1"},
        "members": {"min": 2, "max": 3, "acceptWithin": "1h"},
        "rounds": {"count": 4, "minUpdates": 2},
        "workers": {"replicas": 2},
    }
    return TaskSpec.model_validate({**spec, **changes})


def task(spec: TaskSpec | None = None, mirror_of: bytes | None = None) -> Task:
    uid = "0f8fad5b-d9cb-469f-a165-70867728950e"
    return Task("oncology", "wdbc", uid, 3, mirror_of, spec if spec is not None else task_spec(), "", ())


def chain_member(address: str = OWN, roles: int = 7, stake: int = 1000) -> Member:
    return Member(address, Role(roles), bytes(32), "10.66.0.11", bytes(32), b"", stake * UNIT, 0, 1)


def participant(address: str = OWN, session: str = SESSION, endpoint: str = "10.66.0.11:30001") -> Participant:
    return Participant(0, address, Role(6), session, endpoint, 1000 * UNIT, bytes(32), b"")


def published(
    status: TaskStatus = TaskStatus.OPEN, planner: str = OWN, spec: TaskSpec | None = None, **changes: Any
) -> PublishedTask:
    terms = TaskTerms.of("wdbc", spec if spec is not None else task_spec()).canonical()
    made = PublishedTask(
        TASK_ID,
        b"c" * 32,
        planner,
        bytes(32),
        terms,
        TOKEN_ADDRESS,
        200 * UNIT,
        2,
        3,
        4,
        int(NOW.timestamp()) + 3600,
        int(NOW.timestamp()) + 86_400,
        60,
        status,
        10,
        fallback_window=3600,
    )
    return replace(made, **changes)


def on_chain(
    status: TaskStatus = TaskStatus.OPEN,
    participants: tuple[Participant, ...] = (),
    settlement: SettlementState | None = None,
    claimed: dict[str, int] | None = None,
    **changes: Any,
) -> TaskOnChain:
    return TaskOnChain(published(status, **changes), participants, settlement, claimed or {}, (), 18, "DEV")


def consortium(*tasks: TaskOnChain, members: tuple[Member, ...] | None = None) -> ConsortiumOnChain:
    found = members if members is not None else (chain_member(), chain_member(OTHER))
    return ConsortiumOnChain(
        Consortium(b"c" * 32, "oncology-eu", OTHER, TOKEN_ADDRESS, 100 * UNIT, 0, 604_800),
        18,
        "DEV",
        found,
        {one.published.task_id: one for one in tasks},
        42,
    )


def node_port_service() -> dict[str, Any]:
    return {"metadata": {"name": "wdbc-exchange"}, "spec": {"ports": [{"nodePort": 30001}]}}


def children(**changes: Any) -> Children:
    return replace(
        Children(services={"wdbc-exchange": node_port_service()}, session_address=SESSION, ray_token=True), **changes
    )


def task_seen(chain: ConsortiumOnChain | None = None, **changes: Any) -> TaskSeen:
    own = Own("eu", "uid-of-eu", subnet_spec(), OWN)
    seen = TaskSeen(now=NOW, around=AROUND, children=children(), own=own, chain=chain or consortium(), task_id=TASK_ID)
    return replace(seen, **changes)


def subnet(spec: SubnetSpec | None = None) -> SubnetObject:
    return SubnetObject("oncology", "eu", "uid-of-eu", 2, spec if spec is not None else subnet_spec(), "", ())


def subnet_seen(**changes: Any) -> SubnetSeen:
    seen = SubnetSeen(now=NOW, around=AROUND, address=OWN, chain=consortium(), tls=Tls(b"der", bytes(32)), balance=5)
    return replace(seen, **changes)


@pytest.fixture
def make() -> SimpleNamespace:
    """The makers of this file, as one thing that tests can ask for."""
    return SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("_")})
