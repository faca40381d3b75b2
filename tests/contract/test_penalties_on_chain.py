"""Ledgers of penalties on a real node: what is held stays, what is slashed is burnt, who is removed is not asked."""

from __future__ import annotations

import pytest
from covey_chain import penalties, signing
from covey_chain.errors import Reverted
from covey_chain.events import EventKind
from covey_chain.types import Penalty, RollCall, RoundResult
from eth_utils.crypto import keccak
from lab import CONSORTIUM, TOKEN, Lab, result_of

pytestmark = pytest.mark.chain

HELD = Penalty(2, removed=False, appealing=True, held=100 * TOKEN, slashed=5 * TOKEN)


async def settle(lab: Lab, sessions: list[bytes], task_id: bytes, round_: int, *entries: Penalty) -> RoundResult:
    ledger = penalties.encode(entries)
    result = result_of(task_id, {lab.planner.address: TOKEN}, round_, last=False, ledger=ledger)
    await lab.planner.post_result(result, ledger, lab.signed(result, sessions))
    return result


async def test_what_is_slashed_is_burnt_and_what_is_held_does_not_leave(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    wallet = lab.wallets[2]
    inside = await lab.chain.token_balance(lab.deployment.token, lab.deployment.registry)
    assert await lab.chain.penalty_of(task_id, wallet.address) == Penalty(2, False, False, 0, 0)
    assert await lab.chain.penalty_of(task_id, "0x" + "99" * 20) is None
    await settle(lab, sessions, task_id, 1, HELD)
    assert await lab.chain.penalty_of(task_id, wallet.address) == HELD
    member = await lab.chain.member(CONSORTIUM, wallet.address)
    assert member is not None
    assert (member.stake, member.held) == (995 * TOKEN, 100 * TOKEN)
    assert await lab.chain.token_balance(lab.deployment.token, lab.deployment.registry) == inside

    await wallet.unstake_down_to(CONSORTIUM, 0)
    await lab.rpc("evm_increaseTime", 365 * 86_400)
    await lab.rpc("evm_mine")
    before = await lab.chain.token_balance(lab.deployment.token, wallet.address)
    await wallet.withdraw(CONSORTIUM)
    with pytest.raises(Reverted, match="hold the stake") as caught:
        await wallet.withdraw(CONSORTIUM)
    assert (caught.value.reason, caught.value.arguments) == ("StillHeld", (100 * TOKEN,))
    assert await lab.chain.token_balance(lab.deployment.token, wallet.address) == before + 895 * TOKEN


async def test_only_what_has_changed_is_an_event(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    other = Penalty(0, removed=False, appealing=False, held=TOKEN, slashed=0)
    await settle(lab, sessions, task_id, 1, other, HELD)
    first = await lab.chain.block_number()
    removed = Penalty(2, removed=True, appealing=False, held=0, slashed=105 * TOKEN)
    await settle(lab, sessions, task_id, 2, other, removed)
    events = await lab.chain.events(first + 1, await lab.chain.block_number())
    slashed, changed = (
        [event for event in events if event.kind is kind] for kind in (EventKind.SLASHED, EventKind.PENALTY_CHANGED)
    )
    assert [event.arguments["amount"] for event in slashed] == [100 * TOKEN]
    assert [event.arguments["reward"] for event in slashed] == [0]
    assert [event.arguments for event in changed] == [
        {"taskId": task_id, "member": lab.wallets[2].address, "held": 0, "slashed": 105 * TOKEN, "removed": True}
    ]


async def test_who_is_removed_is_not_asked_in_the_next_roll_call(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    await settle(lab, sessions, task_id, 1, Penalty(2, removed=True, appealing=False, held=0, slashed=0))
    assert [p.address for p in await lab.chain.participants(task_id) if p.removed] == [lab.wallets[2].address]
    # The running epoch still counts its signature.
    assert len((await lab.chain.roll_calls(task_id)).active) == 3
    await settle(lab, sessions, task_id, 2, Penalty(2, removed=True, appealing=False, held=0, slashed=0))
    calls = [RollCall(task_id, 1, wallet.address, keccak(b"")) for wallet in lab.wallets]
    answers = [signing.sign(lab.chain.domain, call, key) for call, key in zip(calls, sessions, strict=True)]
    with pytest.raises(Reverted, match="not asked"):
        await lab.planner.answer_roll_call(calls[2], answers[2], b"")
    await lab.planner.answer_roll_call(calls[0], answers[0], b"")
    await lab.planner.answer_roll_call(calls[1], answers[1], b"")
    state = await lab.chain.roll_calls(task_id)
    assert (state.epoch, state.active.keys()) == (1, {wallet.address for wallet in lab.wallets[:2]})


STAKE = 1000 * TOKEN
ENTRY = penalties.encode([HELD])


@pytest.mark.parametrize(
    ("ledger", "reason"),
    [
        (b"", "PenaltyForgotten"),
        (penalties.encode([Penalty(1, False, False, 1, 0)]), "PenaltyForgotten"),
        (ENTRY[:-1], "PenaltiesCut"),
        (ENTRY + ENTRY, "PenaltiesNotAscending"),
        (ENTRY[:1] + b"\x08" + ENTRY[2:], "PenaltyUnknown"),
        (penalties.encode([HELD, Penalty(3, False, False, 0, 0)]), "NoSuchPlace"),
        (penalties.encode([Penalty(2, False, False, STAKE, 5 * TOKEN)]), "PenaltyAboveStake"),
        (penalties.encode([Penalty(2, False, False, 0, 4 * TOKEN)]), "SlashDecreased"),
    ],
)
async def test_a_ledger_that_cannot_be_is_refused(lab: Lab, ledger: bytes, reason: str) -> None:
    task_id, sessions = await lab.started()
    await settle(lab, sessions, task_id, 1, HELD)
    result = result_of(task_id, {lab.planner.address: TOKEN}, 2, last=False, ledger=ledger)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(result, ledger, lab.signed(result, sessions))
    assert caught.value.reason == reason
    assert caught.value.remedy


async def test_another_ledger_than_the_signed_one_is_refused(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.planner.address: TOKEN}, 1, last=False, ledger=ENTRY)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(result, b"", lab.signed(result, sessions))
    assert (caught.value.reason, caught.value.arguments) == ("PenaltiesMismatch", ("0x" + result.penalties.hex(),))
