"""One of four sends noise, and lies about everybody: real validators and contracts take its stake, step by step."""

from __future__ import annotations

import pytest
from covey_chain.wallet import Wallet
from covey_consortium.convene import BOUNTY, CONSORTIUM, STAKE
from eth_utils import keccak
from numeric_driver import NumericDriver
from validator_consortium import Consortium, Convene
from validator_member import Site

pytestmark = pytest.mark.chain


def drive(task: Consortium) -> Site:
    """Everybody honest but the last, which is returned."""
    *honest, attacker = task.sites
    for site in honest:
        site.drive(NumericDriver(site.directory / "shared", site.index))
    attacker.drive(NumericDriver(attacker.directory / "shared", attacker.index, noise=True, lies_for=attacker.owner))
    return attacker


async def stake_of(task: Consortium, site: Site) -> int:
    member = await task.chain.member(keccak(text=CONSORTIUM), site.owner)
    assert member is not None
    return member.stake


async def test_noise_and_lies_end_slashed_and_removed_on_chain_and_the_honest_are_paid(convene: Convene):
    task = await convene(
        4, rounds={"count": 16}, incentives={"epochRounds": 2}, aggregation={"outerLearningRate": "0.2"}
    )  # so slow that there is something to learn until the end
    attacker = drive(task)
    await task.start()
    await attacker.reaches(2)
    first = await attacker.shows("standing", lambda standing: standing is not None, 120)
    assert int(first["standing"]["held"]) >= STAKE * 5 // 1000
    assert "this site helped the median holdout" in first["standing"]["words"]
    await task.all_succeed(300)

    penalty = await task.chain.penalty_of(task.task_id, attacker.owner)
    assert penalty is not None
    assert (penalty.removed, penalty.held, penalty.slashed) == (True, 0, STAKE * 315 // 1000)
    assert await stake_of(task, attacker) == STAKE - penalty.slashed
    said = attacker.termination["progress"]["standing"]
    assert (said["removed"], said["slashedShare"], said["held"]) == (True, "31.5 %", "0")
    assert "removed in epoch 6" in said["words"]

    wallet = Wallet(task.chain, task.sites[0].owner_key)
    rewards = {}
    for site in task.sites:
        rewards[site.owner] = int(site.termination["reward"])
        proof = [bytes.fromhex(sibling[2:]) for sibling in site.termination["rewardProof"]]
        if rewards[site.owner]:
            await wallet.claim(task.task_id, site.owner, rewards[site.owner], proof)
        if site is not attacker:
            assert await stake_of(task, site) == STAKE
            assert "paid for" in site.termination["progress"]["standing"]["words"]
    honest = sorted(amount for owner, amount in rewards.items() if owner != attacker.owner)
    assert rewards[attacker.owner] < honest[0] // 10
    assert BOUNTY * 99 // 100 < sum(rewards.values()) <= BOUNTY
