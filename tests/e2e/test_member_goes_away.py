"""One of three members goes away in the middle of a task: the others go on without it, and it comes back.

That it may come back without its state, too, and then signs nothing twice, is shown with real validators but without
clusters (`integration/validator/test_lost_state.py`): two that train as fast as they can leave the third, on the same
two cores, minutes to start.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from covey_demo import ledger, outcome, progress, story
from covey_demo.members import MANUAL, MEMBERS, NAMESPACE, PLANNER
from covey_demo.story import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

TASK = "away"
ROUNDS = 150  # two members play one or two in a second, and the third needs half a minute to come back


@pytest.fixture
def task_id(stage: Stage, make_task: Callable[..., dict[str, Any]]) -> Iterator[str]:
    task = make_task(TASK)
    task["spec"]["rounds"] |= {"count": ROUNDS, "deadline": "20s", "answerWindow": "20s", "settleEvery": 50}
    # Most of these rounds come when there is nothing left to learn; who judges then judges noise.
    task["spec"]["incentives"] = {"epochRounds": 1000}
    yield story.publish(stage, task)
    for cluster in stage.clusters.values():
        mine = [each["metadata"]["name"] for each in cluster.objects("ft") if each["metadata"]["name"].startswith(TASK)]
        cluster.kubectl("delete", "ft", *mine, f"--namespace={NAMESPACE}", "--ignore-not-found", "--timeout=180s")


def suspend(stage: Stage, task: str, value: bool) -> None:
    patch = json.dumps({"spec": {"suspend": value}})
    stage.clusters[MANUAL.name].kubectl(
        "patch", "ft", task, f"--namespace={NAMESPACE}", "--type=merge", f"--patch={patch}"
    )


def stake(stage: Stage) -> str:
    """Of the member that goes away, as its Subnet shows it."""
    (subnet,) = stage.clusters[MANUAL.name].objects("subnets")
    return str(progress.status(subnet)["stake"])


def rounds_done(task: dict[str, Any]) -> int:
    return int(progress.status(task).get("round") or 0)


def test_two_go_on_without_the_third_which_comes_back(stage: Stage, task_id: str) -> None:
    story.join(stage, task_id)
    for member in MEMBERS:
        gone = story.await_task(stage, member, task_id, lambda found: rounds_done(found) >= 2, 600)
    name, staked = gone["metadata"]["name"], stake(stage)
    suspend(stage, name, True)
    told = story.await_task(
        stage, PLANNER, task_id,
        lambda found: "has not answered the roll" in str(progress.condition(found, "Training").get("message")), 300,
    )  # fmt: skip
    owner = ledger.address_of(stage.state.keys[MANUAL.name])
    assert owner in progress.condition(told, "Training")["message"]
    alone = rounds_done(told)
    story.await_task(stage, PLANNER, task_id, lambda found: rounds_done(found) >= min(alone + 5, ROUNDS), 300)
    suspend(stage, name, False)
    tasks = story.follow(stage, task_id, 900)
    books = asyncio.run(ledger.books(stage.state, bytes.fromhex(task_id[2:])))
    assert outcome.check(stage, tasks, books)
    assert stake(stage) == staked, "nobody lost stake by a second signature"
