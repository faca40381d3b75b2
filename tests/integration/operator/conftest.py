"""A real API server, a real chain with deployed contracts, and the operator as a process under its own account."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from backends import BACKENDS, BarePods, install_kuberay
from covey_api.status import Condition
from covey_chain.anvil import Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet
from covey_dev.apiserver import ApiServer
from covey_dev.operator import OperatorProcess, Operators
from covey_operator.kinds import SUBNET, Kind, Object
from covey_operator.kube import Kube
from covey_operator.metrics import Metrics
from eth_account import Account
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

TOKEN = 10**18
CONSORTIUM = "oncology-eu"
IMAGE = "registry.example/wdbc@sha256:" + "1" * 64


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    with anvil() as running:
        yield running


@pytest.fixture(scope="session")
def contracts(node: Node) -> Deployment:
    """Deployed contracts with one consortium: minimum stake 100, open admission."""

    async def deploy() -> Deployment:
        deployed = await deploy_all(node.url, node.keys[0])
        chain = await Chain.connect(node.url, node.chain_id, deployed.settlement)
        await Wallet(chain, node.keys[0]).create_consortium(CONSORTIUM, deployed.token, 100 * TOKEN)
        await chain.close()
        return deployed

    return asyncio.run(deploy())


@pytest.fixture(scope="session")
def operators(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Operators:
    made = Operators(api_server, tmp_path_factory.mktemp("operator"))
    made.prepare()
    return made


@pytest.fixture(scope="session")
def shared_operator(operators: Operators) -> Iterator[None]:
    """An operator serves all tests of the run."""
    operators.shared = operators.start()
    yield
    if operators.shared is not None:
        end_shared(operators)


@pytest.fixture
def operator(operators: Operators, shared_operator: None) -> OperatorProcess:
    """The operator that serves all tests; another one where the last one has failed a test by its end."""
    if operators.shared is None:
        operators.shared = operators.start()
    return operators.shared


def end_shared(operators: Operators) -> None:
    """Nothing may ever have been forbidden to it, and no pass may have crashed."""
    process, operators.shared = operators.shared, None
    assert process is not None
    process.port()  # from here on a signal ends it in order
    assert process.running, f"the operator has ended by itself: {process.text()[-5000:]}"
    status = process.terminate()
    assert status == 0, f"the operator ended with {status}: {process.text()[-5000:]}"
    log = process.text()
    for never in ("forbidden: User", "Traceback"):
        place = log.find(never)
        assert place < 0, f"the operator's log has {never!r}: {excerpt(log, place)}"


def excerpt(log: str, place: int) -> str:
    """The entry of a log at a place: its beginning, and its last lines, which name the error."""
    begin = log.rfind("\n20", 0, place) + 1
    end = log.find("\n20", place)
    lines = log[begin : end if end >= 0 else len(log)].splitlines()
    return "\n".join(lines if len(lines) < 14 else [*lines[:2], "…", *lines[-10:]])


@pytest.fixture
def alone(operators: Operators) -> Iterator[None]:
    """No operator works but those that the test starts: the one of the run ends, and another one comes afterwards."""
    shared = operators.shared is not None
    if shared:
        end_shared(operators)
    yield
    if shared:
        operators.shared = operators.start()


class Cluster:
    """What a test reads and writes, as administrator."""

    def __init__(self, kube: Kube, server: ApiServer) -> None:
        self.kube = kube
        self.server = server

    def apply(self, *objects: Object) -> None:
        self.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> None:
        self.server.kubectl("patch", kind.plural, name, "-n", namespace, "--type=merge", "-p", json.dumps(patch))

    def set_pod_status(self, namespace: str, name: str, status: Object) -> None:
        patch = json.dumps({"status": status})
        self.server.kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.server.kubectl("delete", kind.plural, name, "-n", namespace, "--wait=false")

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return await self.kube.get(kind, namespace, name)

    async def until(self, what: str, check: Any, limit_seconds: float = 30.0) -> Any:
        """Ask until the answer is true, and return it."""
        deadline = time.monotonic() + limit_seconds
        last: Any = None
        while time.monotonic() < deadline:
            last = await check()
            if last:
                return last
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within {limit_seconds:.0f} s: {what}; last answer: {last}")

    async def condition(
        self, kind: Kind, namespace: str, name: str, type_: str, reason: str, status: str | None = None
    ) -> Condition:
        """Wait until a condition has a reason (and status)."""
        seen: list[str] = []

        async def check() -> Condition | None:
            obj = await self.get(kind, namespace, name)
            found = ((obj or {}).get("status") or {}).get("conditions") or []
            seen[:] = [f"{c['type']}={c['status']}/{c['reason']}: {c.get('message')}" for c in found]
            for condition in found:
                if (condition["type"], condition["reason"]) == (type_, reason) and status in (
                    None,
                    condition["status"],
                ):
                    return Condition.model_validate(condition)
            return None

        try:
            return await self.until(f"{kind.kind} {name} {type_} {status or ''} {reason}", check)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(seen)) from None


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    configuration = Configuration()
    await config.load_kube_config(str(api_server.kubeconfig), client_configuration=configuration)
    api = ApiClient(configuration)
    yield Cluster(Kube(api, Metrics(), "test"), api_server)
    await api.close()


class Member:
    """An institution: a namespace, an owner wallet with coins and tokens, and manifests."""

    def __init__(self, name: str, node: Node, contracts: Deployment, cluster: Cluster) -> None:
        self.namespace = name
        self.account = Account.create()
        self.key = "0x" + bytes(self.account.key).hex()
        self.address = str(self.account.address)
        self.node, self.contracts, self.cluster = node, contracts, cluster

    async def fund(self, tokens: int = 10_000) -> None:
        chain = await Chain.connect(self.node.url, self.node.chain_id, self.contracts.settlement)
        await Wallet(chain, self.node.keys[0]).fund(self.address, 10 * 10**18)
        await chain.close()
        await mint(self.node.url, self.node.keys[0], self.contracts.token, self.address, tokens * TOKEN)

    def prepare(self, claims: tuple[str, ...] = ("data", "models"), key: str | None = None) -> None:
        metadata = {"namespace": self.namespace}
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": self.namespace,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "wallet", **metadata},
                "stringData": {"privateKey": key if key is not None else self.key},
            },
            *(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": name, **metadata},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }
                for name in claims
            ),
        )

    def subnet(self, **changes: Any) -> Object:
        spec: Object = {
            "consortium": CONSORTIUM,
            "chain": {
                "rpcUrl": self.node.url,
                "chainId": self.node.chain_id,
                "contract": self.contracts.settlement,
                "walletSecret": {"name": "wallet"},
            },
            "stake": "1000",
            "roles": ["Planner", "Trainer", "Validator"],
            "exchange": {"advertise": f"{self.namespace}.example"},
            "datasets": [{"name": "wdbc", "schema": "wdbc-v1", "claimName": "data", "path": "part"}],
            "policy": {"approval": "Automatic"},
            "storage": {"outputClaim": "models"},
        }
        return {
            "apiVersion": "covey.dev/v1alpha1",
            "kind": "Subnet",
            "metadata": {"name": "eu", "namespace": self.namespace},
            "spec": {**spec, **changes},
        }

    def task(self, name: str, **changes: Any) -> Object:
        spec: Object = {
            "subnet": "eu",
            "bounty": {"amount": "200"},
            "program": {"image": IMAGE, "entrypoint": "wdbc.program:Program", "config": {"seed": 7}},
            "data": {"schema": "wdbc-v1"},
            "members": {"min": 2, "max": 2, "acceptWithin": "1h"},
            "rounds": {"count": 4, "localSteps": 5, "deadline": "1m", "minUpdates": 2},
            "workers": {"replicas": 2, "resources": {"cpu": "500m", "memory": "1Gi"}},
        }
        return {
            "apiVersion": "covey.dev/v1alpha1",
            "kind": "FederatedTask",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {**spec, **changes},
        }


@pytest.fixture
async def member(request: pytest.FixtureRequest, node: Node, contracts: Deployment, cluster: Cluster) -> Any:
    """Makes members with namespaces of their own; `await member()` is funded and its namespace is prepared."""
    stem = request.node.originalname.removeprefix("test_").replace("_", "-")[:30].rstrip("-")
    if hasattr(
        request.node, "callspec"
    ):  # a namespace of each variant's own: what the last one owned goes a moment later
        stem = f"{stem}-{request.node.callspec.id.lower()}"
    made: list[Member] = []

    async def make(funded: bool = True, **preparation: Any) -> Member:
        one = Member(f"{stem}-{len(made)}", node, contracts, cluster)
        made.append(one)
        if funded:
            await one.fund()
        one.prepare(**preparation)
        return one

    yield make
    for one in made:
        cluster.server.kubectl("delete", "ft,sn", "--all", "-n", one.namespace, "--wait=true", "--timeout=60s")


@pytest.fixture
def backend(request: pytest.FixtureRequest, api_server: ApiServer) -> BarePods:
    """What makes the pods; `BOTH` runs a test with either."""
    chosen = BACKENDS[getattr(request, "param", "Pods")]
    if chosen.name == "KubeRay":
        install_kuberay(api_server)
    return chosen


@pytest.fixture
async def two_sites(cluster: Cluster, member: Any, backend: BarePods) -> list[Member]:
    """A Planner that trains too, and a member that joins automatically, both Ready."""
    sites = [await member(), await member()]
    for site in sites:
        cluster.apply(site.subnet(compute={"backend": backend.name}))
    for site in sites:
        await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    return sites


@contextmanager
def _closing(process: OperatorProcess) -> Iterator[OperatorProcess]:
    try:
        yield process
    finally:
        if process.running:
            process.kill()


@pytest.fixture
def another_operator(operators: Operators) -> Any:
    """Starts further operator processes; killed at the end of the block."""
    return lambda **settings: _closing(operators.start(**settings))
