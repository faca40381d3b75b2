"""Two signatures for one slot, taken to a real node by somebody whom nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_chain import signing
from covey_chain.errors import Reverted
from covey_chain.events import EventKind
from covey_chain.types import Proposal, Provable, RollCallState, UpdateHeader, Vote
from covey_chain.wallet import Wallet
from lab import BOTH, CONSORTIUM, TOKEN, WORKER, Lab, result_of

pytestmark = pytest.mark.chain

REPORTER = "0x" + "be" * 20
STAKE = 1000 * TOKEN


def pairs(task_id: bytes, site: str) -> list[tuple[Provable, Provable]]:
    header = UpdateHeader(task_id, 3, 0, site, bytes(32), bytes(32), 1000, b"\x01" * 32, 50)
    proposal = Proposal(task_id, 3, 1, 2, -1, b"\x01" * 32, site)
    vote = Vote(task_id, 3, 1, 2, 1, b"\x01" * 32, site)
    return [
        (header, replace(header, samples=51)),
        (proposal, replace(proposal, valid_view=1)),
        (vote, replace(vote, value=bytes(32))),
    ]


def said(lab: Lab, body: Provable, session: bytes) -> tuple[Provable, bytes]:
    return body, signing.sign(lab.chain.domain, body, session)


@pytest.fixture
async def stranger(lab: Lab) -> Wallet:
    return Wallet(lab.chain, lab.node.keys[9])


@pytest.mark.parametrize("kind", range(3))
@BOTH
async def test_a_lie_costs_half_of_the_stake_and_the_seat(lab: Lab, stranger: Wallet, kind: int) -> None:
    task_id, sessions = await lab.started()
    liar = lab.wallets[2].address
    first, second = (said(lab, body, sessions[2]) for body in pairs(task_id, liar)[kind])
    receipt = await stranger.prove_fault(first, second, REPORTER)
    assert receipt.tx_hash is not None
    assert (await stranger.prove_fault(second, first, REPORTER)).tx_hash is None

    member = await lab.chain.member(CONSORTIUM, liar)
    assert member is not None
    assert member.stake == STAKE // 2
    assert await lab.chain.token_balance(lab.deployment.token, REPORTER) == STAKE // 20
    found = {p.address: p for p in await lab.chain.participants(task_id)}
    assert [p.address for p in found.values() if p.expelled] == [liar]
    assert found[liar].stake == STAKE
    honest = dict.fromkeys([wallet.address for wallet in lab.wallets[:2]], STAKE)
    assert await lab.chain.roll_calls(task_id) == RollCallState(0, honest, {}, None)
    slashed, proven = await lab.chain.events(receipt.block, receipt.block)
    assert (slashed.kind, slashed.arguments["amount"]) == (EventKind.SLASHED, STAKE // 2)
    assert (proven.kind, proven.arguments["member"]) == (EventKind.FAULT_PROVEN, liar)
    assert proven.arguments["first"] == signing.struct_hash(first[0])

    result = result_of(task_id, {lab.planner.address: TOKEN})
    with pytest.raises(Reverted, match="2/3"):
        await lab.planner.post_result(result, b"", lab.signed(result, sessions[1:]))
    await lab.planner.post_result(result, b"", lab.signed(result, sessions[:2]))


@BOTH
async def test_a_key_that_was_replaced_still_convicts(lab: Lab, stranger: Wallet) -> None:
    task_id, sessions = await lab.started()
    fresh, liar = signing.new_key(), lab.wallets[2]
    await liar.accept(task_id, WORKER, signing.address_of(fresh), "10.0.0.9:7443")
    first, second = pairs(task_id, liar.address)[2]
    await stranger.prove_fault(said(lab, first, sessions[2]), said(lab, second, fresh), REPORTER)
    assert (await lab.chain.roll_calls(task_id)).active.keys() == {w.address for w in lab.wallets[:2]}


@BOTH
async def test_what_proves_nothing_is_refused(lab: Lab, stranger: Wallet) -> None:
    task_id, sessions = await lab.started()
    site = lab.wallets[2].address
    headers, proposals, votes = pairs(task_id, site)
    good = said(lab, votes[0], sessions[2])
    cases = [
        (good, said(lab, replace(votes[1], view=9), sessions[2]), "NoConflict"),
        (good, good, "NoConflict"),
        (good, said(lab, votes[1], sessions[0]), "WrongSigner"),
        (good, (votes[1], b"\x01" * 65), "BadSignature"),
    ]
    for first, second, reason in cases:
        with pytest.raises(Reverted) as caught:
            await stranger.prove_fault(first, second, REPORTER)
        assert caught.value.reason == reason
    with pytest.raises(ValueError, match="prove no fault together"):
        await stranger.prove_fault(said(lab, headers[0], sessions[2]), said(lab, proposals[0], sessions[2]), REPORTER)
    assert len((await lab.chain.roll_calls(task_id)).active) == 3


async def test_stake_that_a_task_counts_on_stays_until_its_deadline(lab: Lab) -> None:
    task_id, _ = await lab.started()
    task = await lab.chain.task(task_id)
    assert task is not None
    wallet = lab.wallets[1]
    await wallet.unstake_down_to(CONSORTIUM, 0)
    await lab.rpc("evm_setNextBlockTimestamp", task.deadline + 604_799)
    await lab.rpc("evm_mine")
    with pytest.raises(Reverted) as caught:
        await wallet.withdraw(CONSORTIUM)
    assert (caught.value.reason, caught.value.arguments) == ("StillBonded", (task.deadline + 604_800,))
    await lab.rpc("evm_increaseTime", 10)
    await lab.rpc("evm_mine")
    await wallet.withdraw(CONSORTIUM)
