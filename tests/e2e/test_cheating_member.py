"""One of three members cheats: its validator's image lies and sends noise. It ends slashed and removed on chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from covey_chain.account import Account
from covey_demo import ledger, progress, story
from covey_demo.cluster import Cluster
from covey_demo.members import CHART, MANUAL, NAMESPACE, SYSTEM_NAMESPACE
from covey_demo.story import Stage
from covey_dev import golang, images
from covey_dev.process import run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

# Six epochs until the seat is lost, and one more. More rounds would be played after the model has learnt: with some
# twenty records to judge by and a third of the stake lying, honest members are then held to noise (incentives.md).
ROUNDS, EPOCH_ROUNDS = 21, 3
TASK = "cheated"


def use_trainer(cluster: Cluster, image: str) -> None:
    """Have the member's operator run another image as validator, as its own administrator can."""
    repository, _, digest = image.partition("@")
    run(
        golang.helm(), "upgrade", "covey", CHART, f"--namespace={SYSTEM_NAMESPACE}", "--reset-then-reuse-values",
        "--set-string", f"trainerImage.repository={repository}", "--set-string", f"trainerImage.digest={digest}",
        "--wait", f"--timeout={story.READY_SECONDS}s",
        env=cluster.environment,
    )  # fmt: skip


@pytest.fixture
def attacker(stage: Stage) -> Iterator[Cluster]:
    cluster = stage.clusters[MANUAL.name]
    use_trainer(cluster, stage.place.image(images.ATTACKER.name, stage.place.variant))
    yield cluster
    for each in stage.clusters.values():
        mine = [task["metadata"]["name"] for task in each.objects("ft") if task["metadata"]["name"].startswith(TASK)]
        each.kubectl("delete", "ft", *mine, f"--namespace={NAMESPACE}", "--ignore-not-found", "--timeout=180s")
    use_trainer(cluster, stage.place.image("trainer", stage.place.variant))


def test_noise_and_lies_cost_stake_and_seat_and_the_honest_are_paid(
    stage: Stage, attacker: Cluster, make_task: Callable[..., dict[str, Any]]
) -> None:
    task = make_task(TASK)
    task["spec"]["rounds"] |= {"count": ROUNDS, "settleEvery": EPOCH_ROUNDS}
    task["spec"]["incentives"] = {"epochRounds": EPOCH_ROUNDS}
    task_id = story.publish(stage, task)
    story.join(stage, task_id)
    ended = story.follow(stage, task_id)

    books = asyncio.run(ledger.books(stage.state, bytes.fromhex(task_id[2:])))
    accounts: dict[str, Account] = books.accounts
    cheat = accounts.pop(attacker.name)
    assert cheat.removed
    assert cheat.held == 0
    assert cheat.slashed >= cheat.stake * 315 // 1000
    for name, honest in accounts.items():
        assert not honest.removed, name
        assert honest.slashed <= honest.stake // 20, name
        assert honest.net > 0 > cheat.net, name
    assert books.conserved

    said = progress.condition(ended[attacker.name], "GoodStanding")
    assert (said["status"], said["reason"]) == ("False", "RemovedForQuality")
    assert progress.status(ended[attacker.name])["slashed"].startswith(("31.5", "32"))
    events = attacker.kubectl("get", "events", f"--namespace={NAMESPACE}", "--field-selector=reason=StakeHeld")
    assert "0.5 % of stake" in events, "every penalty is an event at its member"
    for name in accounts:
        assert "paid for" in progress.condition(ended[name], "GoodStanding")["message"].lower(), name
