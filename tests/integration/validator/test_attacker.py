"""One of four sends noise, and lies about everybody: real validators and contracts take its stake, step by step."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from covey_chain import signing
from covey_chain.wallet import Wallet
from covey_cli.main import cli
from covey_consortium.convene import BOUNTY, CONSORTIUM, STAKE
from eth_utils import keccak
from numeric_driver import NumericDriver
from safetensors.numpy import load_file, save_file
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
    await an_auditor_finds_the_same(task, attacker)


async def an_auditor_finds_the_same(task: Consortium, attacker: Site) -> None:
    state, output = task.sites[0].directory / "state", task.sites[0].directory / "output/numbers"
    where = [*task.options, "--state", str(state)]

    def verify(model: Path = output / "model.safetensors") -> str:
        return CliRunner().invoke(cli, ["verify", *where, "--model", str(model)]).output

    before = sorted(path for path in state.rglob("*"))
    found = await asyncio.to_thread(verify)
    assert "16 rounds, each signed by more than two thirds" in found
    assert "the chain has settled the same result of round 16" in found
    assert f"{attacker.owner}: no reward: removed in epoch 6; 31.5 % of stake slashed" in found
    assert sorted(path for path in state.rglob("*")) == before, "an auditor changes nothing"
    other = load_file(output / "model.safetensors")
    save_file({name: value + 1 for name, value in other.items()}, output / "other.safetensors")
    assert "is not the model of round 16" in await asyncio.to_thread(verify, output / "other.safetensors")
    update = next((state / "updates").glob("*.update"))
    whole = update.read_bytes()
    update.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "bytes that" in await asyncio.to_thread(verify)
    update.write_bytes(whole)
    record = state / "certified/00000009.json"
    record.write_text(record.read_text().replace('"accepted":true', '"accepted":false'))
    assert "signed by no more than 2/3" in await asyncio.to_thread(verify)


async def test_a_removed_member_helps_to_call_the_roll_until_the_chain_knows(convene: Convene):
    rounds = {"count": 40, "deadline": "5s", "answerWindow": "5s", "settleEvery": 100, "minUpdates": 1}
    task = await convene(3, rounds=rounds, incentives={"epochRounds": 1}, aggregation={"outerLearningRate": "0.2"})
    *honest, attacker = task.sites
    for site in honest:
        site.drive(NumericDriver(site.directory / "shared", site.index, seconds=lambda _round: 0.2))
    noise = NumericDriver(attacker.directory / "shared", attacker.index, noise=True, lies_for=attacker.owner)
    attacker.drive(noise)
    await task.start()
    await attacker.reaches(2)
    await attacker.shows("standing", lambda standing: standing is not None and standing["removed"], 120)
    stays, goes = honest
    await goes.kill()
    reached = stays.certified()
    await stays.shows("suspended", lambda away: goes.owner in away, 120)
    await stays.reaches(reached + 2)
    await goes.start()
    await task.all_succeed(300)
    penalty = await task.chain.penalty_of(task.task_id, attacker.owner)
    assert penalty is not None
    assert penalty.removed


async def test_with_an_auditor_what_is_held_waits_for_its_word(convene: Convene, tmp_path: Path):
    auditor = signing.new_key()
    terms = {"epochRounds": 1, "auditor": signing.address_of(auditor), "appealWindow": "1h"}
    task = await convene(4, rounds={"count": 8}, incentives=terms, aggregation={"outerLearningRate": "0.2"})
    attacker = drive(task)
    await task.start()
    await task.all_succeed(300)
    held = await task.chain.penalty_of(task.task_id, attacker.owner)
    assert held is not None
    assert (held.removed, held.appealing, held.slashed) == (True, True, 0)
    assert held.held >= STAKE * 315 // 1000
    assert "an auditor decides" in attacker.termination["progress"]["standing"]["words"]
    assert await stake_of(task, attacker) == STAKE

    def appeal(verb: str, key: bytes | str, *options: str) -> str:
        key_file = tmp_path / "key"
        key_file.write_text(key if isinstance(key, str) else "0x" + key.hex())
        done = CliRunner().invoke(cli, ["appeal", verb, *task.options, "--key-file", str(key_file), *options])
        return f"{done.exit_code} {done.output}"

    async def said(*arguments: Any) -> str:
        return await asyncio.to_thread(appeal, *arguments)

    member = ("--member", attacker.owner)
    payer = Wallet(task.chain, task.sites[0].owner_key)
    await payer.fund(signing.address_of(auditor), 10**17)
    assert "wait for a verdict" in await said("resolve", task.sites[0].owner_key, *member)
    assert (await said("file", attacker.owner_key)).startswith("0 The appeal is on chain")
    assert "auditor" in await said("decide", task.sites[1].owner_key, *member, "--not-real", "--epoch", "8")
    assert "not real" in await said("decide", auditor, *member, "--not-real", "--epoch", "8")
    assert await said("resolve", task.sites[0].owner_key, *member) == f"0 {held.held} base units were burnt.\n"
    assert await stake_of(task, attacker) == STAKE - held.held
