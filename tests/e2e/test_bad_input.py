"""Every mistake ends in a condition with a reason and words, and in no crash loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from covey_chain.types import TaskStatus
from covey_demo import ledger, manifests, progress
from covey_demo.cluster import Cluster
from covey_demo.members import NAMESPACE, PLANNER, SYSTEM_NAMESPACE
from covey_demo.story import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

Make = Callable[..., dict[str, Any]]
ALONE = {"min": 1, "max": 1}


@pytest.fixture
def apply(planner: Cluster) -> Iterator[Callable[[dict[str, Any]], str]]:
    """Applies objects at the Planner, and deletes them after the test."""
    made: list[str] = []

    def apply_(item: dict[str, Any]) -> str:
        planner.apply(item)
        made.append(f"{item['kind'].lower()}/{item['metadata']['name']}")
        return made[-1]

    yield apply_
    for name in reversed(made):
        planner.kubectl("delete", name, f"--namespace={NAMESPACE}", "--timeout=180s", "--ignore-not-found")


@pytest.fixture(autouse=True)
def _operator_does_not_crash(stage: Stage) -> Iterator[None]:
    yield
    for cluster in stage.clusters.values():
        for pod in cluster.objects("pods", SYSTEM_NAMESPACE):
            assert [state["restartCount"] for state in pod["status"]["containerStatuses"]] == [0]


def reason(cluster: Cluster, name: str, condition: str, expected: str, seconds: float = 180) -> dict[str, Any]:
    """Wait for a condition's reason; returns the condition."""
    kind, _, plain = name.partition("/")
    deadline = time.monotonic() + seconds
    while True:
        found = progress.condition(cluster.get(kind, plain), condition)
        if found.get("reason") == expected:
            return found
        assert time.monotonic() < deadline, cluster.attempt("describe", name, f"--namespace={NAMESPACE}").stdout
        time.sleep(0.5)


def alone(task: dict[str, Any]) -> dict[str, Any]:
    """Fit a task to a single member, so that only the Planner's own site runs it."""
    task["spec"]["members"] = ALONE
    task["spec"]["rounds"] |= {"minUpdates": 1}
    return task


def test_a_wrong_entrypoint(stage: Stage, planner: Cluster, make_task: Make, apply: Callable[..., str]) -> None:
    task = alone(make_task("no-entry"))
    task["spec"]["program"]["entrypoint"] = "wdbc.program:Programme"
    found = reason(planner, apply(task), "Failed", "EntrypointNotFound", 300)
    assert found["status"] == "True"
    assert "Programme" in found["message"]
    assert not progress.status(planner.get("ft", "no-entry")).get("restarts")


def test_an_unknown_data_schema(planner: Cluster, make_task: Make, apply: Callable[..., str]) -> None:
    found = reason(planner, apply(make_task("no-data", data={"schema": "wdbc-v9"})), "Accepted", "UnknownDataSchema")
    assert found["status"] == "False"
    assert "wdbc-v9" in found["message"]


def test_a_bounty_above_the_balance(planner: Cluster, make_task: Make, apply: Callable[..., str]) -> None:
    task = make_task("too-rich", bounty={"amount": "1000000000"})
    found = reason(planner, apply(task), "Published", "InsufficientFunds")
    assert found["status"] == "False"
    assert "1e+09" in found["message"] or "1000000000" in found["message"]


def test_an_image_that_does_not_exist(planner: Cluster, make_task: Make, apply: Callable[..., str]) -> None:
    task = alone(make_task("no-image"))
    image = f"registry.local/covey/absent@sha256:{'0' * 64}"
    task["spec"]["program"]["image"] = image
    found = reason(planner, apply(task), "ClusterReady", "ImagePullFailed", 300)
    assert found["status"] == "False"
    assert image in found["message"]


def second_subnet(stage: Stage, name: str, **chain: Any) -> dict[str, Any]:
    address, rpc_url = stage.planner.site.address, stage.state.rpc_url
    subnet = manifests.subnet(PLANNER.subnet.read_text(), address, rpc_url, stage.state.settlement)
    subnet["metadata"]["name"] = name
    subnet["spec"]["chain"] |= chain
    return subnet


def test_a_dead_rpc(stage: Stage, planner: Cluster, apply: Callable[..., str]) -> None:
    name = apply(second_subnet(stage, "no-chain", rpcUrl="http://10.66.0.1:8546"))
    found = reason(planner, name, "Ready", "RpcUnavailable")
    assert found["status"] == "False"
    assert "10.66.0.1:8546" in found["message"]


def test_a_bad_wallet_key(stage: Stage, planner: Cluster, apply: Callable[..., str]) -> None:
    apply(manifests.wallet("0xnot-a-key", name="torn-wallet"))
    name = apply(second_subnet(stage, "no-key", walletSecret={"name": "torn-wallet"}))
    found = reason(planner, name, "Ready", "BadWalletKey")
    assert found["status"] == "False"
    assert "not-a-key" not in found["message"]


def test_a_task_that_is_deleted_before_it_starts_gives_its_bounty_back(
    stage: Stage, planner: Cluster, make_task: Make, apply: Callable[..., str]
) -> None:
    name = apply(make_task("taken-back"))
    reason(planner, name, "Published", "ShortTask")
    task_id = bytes.fromhex(progress.status(planner.get("ft", "taken-back"))["taskId"][2:])
    planner.kubectl("delete", name, f"--namespace={NAMESPACE}", "--timeout=120s")
    books = asyncio.run(ledger.books(stage.state, task_id))
    assert books.task.status is TaskStatus.CANCELLED
    assert books.conserved
