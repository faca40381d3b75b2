"""The end of a task without a quorum on real nodes: medians, what is settled first, and a member's steps."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from covey_api.terms import TaskTerms
from covey_chain import anvil, signing
from covey_chain.errors import Reverted
from covey_chain.events import EventKind
from covey_chain.fallback import FallbackPhase, FallbackState, commitment, medians
from covey_chain.merkle import RewardTree
from covey_chain.signers import KeySigner
from covey_chain.types import TaskStatus
from covey_chain.wallet import Wallet
from covey_cli import fallback as command
from covey_cli.appeal import Place
from covey_cli.errors import CommandError
from covey_validator.fallback import FallbackSite
from covey_validator.records import CertifiedRound
from covey_validator.store import Store
from covey_validator.task import Task
from eth_utils.crypto import keccak
from lab import BOTH, TOKEN, Lab, result_of

pytestmark = pytest.mark.chain

SALT = bytes(31) + b"\x01"
BOUNTY = 3000 * TOKEN
SPEC = TaskTerms.model_validate(
    {
        "name": "wdbc",
        "program": {"image": "example/wdbc:1", "entrypoint": "wdbc:Program", "config": {}},
        "data": {"schema": "wdbc-v1"},
        "members": {"min": 3, "max": 3},
        "rounds": {"count": 4, "localSteps": 1, "deadline": "60s", "minUpdates": 2, "settleEvery": 2},
        "workers": {},
        "compression": {"codec": "SparseLoCo", "density": "1/4"},
        "aggregation": {},
        "validation": {"minHoldout": 10},
        "incentives": {},
    }
).canonical()


async def begun(lab: Lab, seconds: int = 3600, window: int = 600) -> tuple[bytes, list[bytes]]:
    """A task that has started; its deadline is so many seconds after its publication."""
    now = await lab.chain.timestamp()
    return await lab.started(
        BOUNTY, spec=SPEC, spec_hash=keccak(SPEC), accept_by=now + seconds - 1, deadline=now + seconds,
        fallback_window=window,
    )  # fmt: skip


async def reach(lab: Lab, moment: int) -> None:
    """Let the chain's clock come to a moment, in a block."""
    if lab.node.chain_id == anvil.CHAIN_ID:
        await lab.rpc("evm_setNextBlockTimestamp", moment)
        await lab.rpc("evm_mine")
        return
    await asyncio.sleep(max(0.0, moment + 1 - time.time()))
    # Blocks are made for transactions only.
    await lab.planner.fund("0x" + "77" * 20, await lab.chain.native_balance("0x" + "77" * 20) + 1)


async def opened(lab: Lab, task_id: bytes, phase: FallbackPhase) -> FallbackState:
    """Let a phase begin."""
    state = await lab.chain.fallback(task_id)
    await reach(lab, state.deadline + state.window * (phase - FallbackPhase.COMMITTING))
    return await lab.chain.fallback(task_id)


def committed(lab: Lab, task_id: bytes, site: str, rewards: list[int]) -> bytes:
    return commitment(lab.chain.chain_id, lab.chain.fallback_contract.address, task_id, site, rewards, SALT)


@BOTH
async def test_two_of_three_settle_by_medians_what_no_quorum_does(lab: Lab) -> None:
    # On geth this waits for two windows.
    on_anvil = lab.node.chain_id == anvil.CHAIN_ID
    task_id, _ = await begun(lab, seconds=3600 if on_anvil else 25, window=600 if on_anvil else 12)
    voices = {lab.wallets[0]: [30, 20, 10], lab.wallets[1]: [40, 20, 5]}
    everything = await lab.holdings()
    state = await opened(lab, task_id, FallbackPhase.COMMITTING)
    assert state.phase(await lab.chain.timestamp()) is FallbackPhase.COMMITTING
    assert list(state.stakes) == [wallet.address for wallet in lab.wallets]
    with pytest.raises(Reverted, match="FallbackOpen"):
        await lab.planner.expire(task_id)
    for wallet, rewards in voices.items():
        await wallet.commit_rewards(task_id, wallet.address, committed(lab, task_id, wallet.address, rewards))
    state = await opened(lab, task_id, FallbackPhase.REVEALING)
    assert state.committed.keys() == {wallet.address for wallet in voices}
    for wallet, rewards in voices.items():
        await lab.wallets[2].reveal_rewards(task_id, wallet.address, rewards, SALT)
    state = await opened(lab, task_id, FallbackPhase.SETTLING)
    assert state.revealed == {wallet.address: tuple(rewards) for wallet, rewards in voices.items()}
    assert state.phase(await lab.chain.timestamp()) is FallbackPhase.SETTLING
    assert medians(state) == (30, 20, 5)
    receipt = await lab.wallets[2].settle_by_medians(task_id, [0, 0, 0], medians(state))
    assert receipt.tx_hash is not None
    assert (await lab.planner.settle_by_medians(task_id, [0, 0, 0], medians(state))).tx_hash is None
    assert await lab.chain.task_status(task_id) is TaskStatus.FINISHED
    rewards = await lab.chain.settled_by_medians(task_id)
    assert rewards == dict(zip(state.stakes, (30, 20, 5), strict=True))
    tree = RewardTree(rewards, task_id)
    for member, amount in rewards.items():
        await lab.planner.claim(task_id, member, amount, tree.proof(member))
        assert await lab.chain.claimed(task_id, member) == amount
    assert await lab.chain.token_balance(lab.deployment.token, lab.deployment.market) == 0
    assert await lab.holdings() == everything
    kinds = {event.kind for event in await lab.chain.events(0, await lab.chain.block_number(), task_id)}
    assert {EventKind.REWARDS_COMMITTED, EventKind.REWARDS_REVEALED, EventKind.SETTLED_BY_MEDIANS} <= kinds


async def test_a_task_that_nobody_settles_is_no_fallback(lab: Lab) -> None:
    task_id, _ = await begun(lab)
    assert await lab.chain.settled_by_medians(task_id) is None
    assert (await lab.chain.fallback(task_id)).phase(await lab.chain.timestamp()) is FallbackPhase.WAITING
    await opened(lab, task_id, FallbackPhase.REVEALING)
    await lab.planner.expire(task_id)
    state = await lab.chain.fallback(task_id)
    assert (state.phase(state.deadline), state.settled_block) == (FallbackPhase.CLOSED, None)


async def test_who_was_not_called_in_or_is_expelled_is_not_active(lab: Lab) -> None:
    task_id, sessions = await begun(lab)
    assert (await lab.chain.fallback(task_id)).active == {wallet.address for wallet in lab.wallets}
    first, second = (
        signing.Vote(task_id, 1, 0, 0, 1, value * 32, lab.wallets[1].address) for value in (b"\x01", b"\x02")
    )
    said = [(vote, signing.sign(lab.chain.domain, vote, sessions[1])) for vote in (first, second)]
    await lab.planner.prove_fault(*said, lab.planner.address)
    assert (await lab.chain.fallback(task_id)).active == {lab.wallets[0].address, lab.wallets[2].address}


# --- a member's steps -------------------------------------------------------------------------------------------------


def certified(lab: Lab, task_id: bytes, sessions: list[bytes], rewards: dict[str, int], number: int) -> CertifiedRound:
    """A record as far as its money goes, under the signatures of `sessions`."""
    result = result_of(task_id, rewards, number, last=False)
    fields = {name: getattr(result, name) for name in result.__dataclass_fields__}
    ordered = sorted(lab.signed(result, sessions).items(), key=lambda item: item[0].lower())
    signatures = [signature for _, signature in ordered]
    return CertifiedRound(**fields, signatures=signatures, updates=b"", scores=b"", reveals=[], rewards=rewards)


async def sites(lab: Lab, task_id: bytes, folder: Path, *records: CertifiedRound) -> list[tuple[FallbackSite, Wallet]]:
    """All three with the same records, each with the key of its member."""
    published = await lab.chain.task(task_id)
    assert published is not None
    task = Task.of(published, await lab.chain.participants(task_id), lab.chain.domain)
    found = []
    for i, wallet in enumerate(lab.wallets):
        store = Store(folder / str(i), wallet.address)
        for record in records:
            store.certify(record)
        found.append((FallbackSite(task, wallet.address, store), wallet))
    return found


def shares(lab: Lab, *amounts: int) -> dict[str, int]:
    return {wallet.address: amount * TOKEN for wallet, amount in zip(lab.wallets, amounts, strict=True)}


async def test_what_a_quorum_has_signed_is_settled_and_paid_before_anything_else(lab: Lab, tmp_path: Path) -> None:
    task_id, sessions = await begun(lab)
    rewards = shares(lab, 30, 20, 10)
    members = await sites(lab, task_id, tmp_path, certified(lab, task_id, sessions, rewards, 1))
    assert "begins at the task's deadline" in await members[0][0].step(lab.chain, members[0][1])
    await opened(lab, task_id, FallbackPhase.COMMITTING)
    for site, wallet in members:
        assert "Nothing is known to be earned beyond what is settled." in await site.step(lab.chain, wallet)
        assert await lab.chain.claimed(task_id, wallet.address) == rewards[wallet.address]
    await opened(lab, task_id, FallbackPhase.REVEALING)
    await lab.planner.expire(task_id)
    assert "is not settled by medians" in await members[0][0].step(lab.chain, members[0][1])


async def test_a_result_that_is_not_taken_any_more_is_settled_by_medians(lab: Lab, tmp_path: Path) -> None:
    task_id, sessions = await begun(lab)
    settled = certified(lab, task_id, sessions, shares(lab, 30, 20, 10), 1)
    await lab.planner.post_result(settled.result, b"", lab.signed(settled.result, sessions))
    # Two of three equal members are not more than two thirds.
    newest = certified(lab, task_id, sessions[:2], shares(lab, 90, 20, 15), 2)
    members = (await sites(lab, task_id, tmp_path, settled, newest))[:2]
    await opened(lab, task_id, FallbackPhase.COMMITTING)
    for site, wallet in members:
        said = await site.step(lab.chain, wallet)
        assert "QuorumMissing" in said
        assert "Committed" in said
    # As after a restart: what is on disk is enough.
    members = (await sites(lab, task_id, tmp_path, settled, newest))[:2]
    assert "Committed; reveal from" in await members[0][0].step(lab.chain, members[0][1])
    await opened(lab, task_id, FallbackPhase.REVEALING)
    for site, wallet in members:
        assert "Revealed" in await site.step(lab.chain, wallet)
        assert "Revealed" in await site.step(lab.chain, wallet)
    await opened(lab, task_id, FallbackPhase.SETTLING)
    assert "is settled by medians" in await members[1][0].step(lab.chain, members[1][1])
    assert "was settled by medians" in await members[0][0].step(lab.chain, members[0][1])
    paid = [await lab.chain.claimed(task_id, wallet.address) for wallet in lab.wallets]
    assert paid == [90 * TOKEN, 20 * TOKEN, 0]
    assert await lab.chain.settled_by_medians(task_id) == newest.rewards


async def test_a_person_says_with_the_command_what_no_record_has(lab: Lab, tmp_path: Path) -> None:
    task_id, sessions = await begun(lab)
    rewards = tmp_path / "rewards.json"
    rewards.write_text(json.dumps({wallet.address.lower(): str(100 * TOKEN) for wallet in lab.wallets}))
    place = Place(lab.node.url, lab.node.chain_id, lab.deployment.settlement)
    keys = [lab.node.keys[1], "0x" + sessions[1].hex()]
    await lab.planner.fund(signing.address_of(sessions[1]), TOKEN)

    async def step(i: int, given: Path = rewards) -> str:
        return await command.step(place, KeySigner(keys[i]), task_id, tmp_path / str(i), given)

    keys.append("0x" + "99" * 32)
    with pytest.raises(CommandError, match="neither a member"):
        await step(2)
    strange = tmp_path / "strange.json"
    strange.write_text(json.dumps({"0x" + "99" * 20: "1"}))
    with pytest.raises(CommandError, match="take no part"):
        await step(0, strange)
    for phase, word in ((FallbackPhase.COMMITTING, "Committed"), (FallbackPhase.REVEALING, "Revealed")):
        await opened(lab, task_id, phase)
        for i in range(2):
            assert word in await step(i)
    await opened(lab, task_id, FallbackPhase.SETTLING)
    assert "is settled by medians" in await step(0)
    assert await lab.chain.claimed(task_id, lab.planner.address) == 100 * TOKEN
