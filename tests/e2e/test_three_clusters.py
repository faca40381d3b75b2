"""The story of the demo: three institutions, one model, money that adds up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from covey_chain.types import TaskStatus
from covey_demo import ledger, manifests, outcome, progress, story
from covey_demo.ledger import Books
from covey_demo.members import AUTOMATIC, MANUAL, MEMBERS, PLANNER, TASK, TASK_FILE
from covey_demo.story import Stage
from covey_dev.process import until
from covey_exchange.manifest import model_digest
from safetensors.numpy import load_file

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@dataclass(frozen=True)
class Ended:
    tasks: dict[str, Any]
    books: Books
    page: str


@pytest.fixture(scope="module")
def ended(stage: Stage) -> Ended:
    tasks = story.train(stage)
    task_id = bytes.fromhex(progress.status(tasks[PLANNER.name])["taskId"][2:])
    return Ended(tasks, asyncio.run(ledger.books(stage.state, task_id)), outcome.report(stage, tasks))


def test_all_members_hold_the_model_that_was_settled(stage: Stage, ended: Ended) -> None:
    files = {name: outcome.model_file(stage.clusters[name], task) for name, task in ended.tasks.items()}
    stored = {name: model_digest(load_file(file)) for name, file in files.items()}
    shown = {name: progress.status(task)["model"]["digest"] for name, task in ended.tasks.items()}
    assert set(stored) == {member.name for member in MEMBERS}
    assert set(stored.values()) == {ended.books.settled.model_digest}
    assert set(shown.values()) == {"0x" + ended.books.settled.model_digest.hex()}


def test_the_task_is_finished_on_chain_in_its_last_round(ended: Ended) -> None:
    assert ended.books.task.status is TaskStatus.FINISHED
    assert (ended.books.settled.round, ended.books.settled.last) == (ended.books.task.rounds, True)


def test_every_reward_is_claimed(ended: Ended) -> None:
    claimed = [account.earned for account in ended.books.accounts.values()]
    assert sum(claimed) == ended.books.settled.total_reward > 0
    assert sum(claimed) <= ended.books.task.bounty


def test_no_token_is_made_or_lost(ended: Ended) -> None:
    assert ended.books.held == ended.books.supply == len(MEMBERS) * ledger.FREE_TOKENS


def test_one_joined_by_policy_and_one_by_a_person(ended: Ended) -> None:
    reasons = {name: progress.condition(task, "Accepted")["reason"] for name, task in ended.tasks.items()}
    assert reasons[AUTOMATIC.name] == "AcceptedByPolicy"
    assert reasons[MANUAL.name] == "AcceptedByPerson"


def test_the_page_has_a_line_for_every_member_whose_auc_together_is_not_below_its_own(ended: Ended) -> None:
    found = [line.split() for line in ended.page.splitlines() if line.startswith(tuple(m.name for m in MEMBERS))]
    lines, ledger = found[: len(MEMBERS)], found[len(MEMBERS) :]
    names = [member.name for member in MEMBERS]
    assert [line[0] for line in lines] == [line[0] for line in ledger] == names, "one of results, one of money"
    assert all(float(together) >= float(alone) for _, alone, together, *_ in lines)
    assert all(abs(float(together) - float(pooled)) <= 0.005 for _, _, together, pooled, *_ in lines)


def test_no_worker_outlives_the_task(stage: Stage, ended: Ended) -> None:
    for name, cluster in stage.clusters.items():
        selector = f"covey.dev/task={ended.tasks[name]['metadata']['name']}"
        # A pod that was told to end has 30 s for it.
        until(lambda c=cluster, s=selector: len(c.objects("pods", selector=s)) == 1, f"{name}: one pod", 60, "")
        (pod,) = cluster.objects("pods", selector=selector)
        assert pod["metadata"]["labels"]["covey.dev/component"] == "head"
        assert pod["status"]["phase"] == "Succeeded"


def test_doing_it_again_publishes_nothing(stage: Stage, ended: Ended) -> None:
    again = story.publish(stage, manifests.task(TASK_FILE.read_text(), stage.program))
    assert again == "0x" + ended.books.task.task_id.hex()
    assert stage.planner.get("ft", TASK) is not None


def test_no_credential_of_one_cluster_works_at_another(stage: Stage) -> None:
    for cluster in stage.clusters.values():
        for other in stage.clusters.values():
            if other is cluster:
                continue
            server = other.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
            asked = cluster.attempt(
                f"--server={server}", "--insecure-skip-tls-verify", f"--cache-dir={cluster.cache}/foreign",
                "get", "namespaces",
            )  # fmt: skip
            assert asked.returncode != 0
            assert "Unauthorized" in asked.stderr or "must be logged in" in asked.stderr
