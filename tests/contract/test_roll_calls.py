"""Roll calls on a real node: who is away stops nobody, comes back, and no two majorities can exist."""

from __future__ import annotations

import pytest
from covey_chain import signing
from covey_chain.errors import Reverted
from covey_chain.types import PendingCall, Receipt, RollCall, RollCallState
from eth_utils.crypto import keccak
from lab import TOKEN, Lab, result_of

pytestmark = pytest.mark.chain

STAKE = 1000 * TOKEN


async def answer(lab: Lab, task_id: bytes, epoch: int, i: int, session: bytes, evidence: bytes = b"") -> Receipt:
    """The answer of the `i`th member, carried by the first."""
    call = RollCall(task_id, epoch, lab.wallets[i].address, keccak(evidence))
    return await lab.planner.answer_roll_call(call, signing.sign(lab.chain.domain, call, session), evidence)


async def close(lab: Lab, task_id: bytes, epoch: int) -> Receipt:
    await lab.rpc("evm_increaseTime", 60)
    await lab.rpc("evm_mine")
    return await lab.planner.close_roll_call(task_id, epoch)


async def test_two_of_three_suspend_the_third_which_comes_back(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    owners = [wallet.address for wallet in lab.wallets]
    assert await lab.chain.roll_calls(task_id) == RollCallState(0, dict.fromkeys(owners, STAKE), {}, None)

    await answer(lab, task_id, 1, 0, sessions[0], b"locked on nothing")
    state = await lab.chain.roll_calls(task_id)
    assert (state.epoch, state.call) == (0, PendingCall(1, None, {owners[0]: b"locked on nothing"}))
    await answer(lab, task_id, 1, 1, sessions[1], b"locked on a value")
    state = await lab.chain.roll_calls(task_id)
    assert state.call is not None
    assert state.call.closes_at == await lab.chain.timestamp() + 60
    with pytest.raises(Reverted) as caught:
        await lab.planner.close_roll_call(task_id, 1)
    assert caught.value.reason == "RollCallStillOpen"
    await close(lab, task_id, 1)
    answers = {owners[0]: b"locked on nothing", owners[1]: b"locked on a value"}
    two = dict.fromkeys(owners[:2], STAKE)
    assert await lab.chain.roll_calls(task_id) == RollCallState(1, two, answers, None)

    first = result_of(task_id, {owners[0]: TOKEN}, 1, last=False, epoch=1)
    await lab.planner.post_result(first, b"", lab.signed(first, sessions[:2]))
    assert (await lab.chain.settlement(task_id)).round == 1

    for i, session in enumerate(sessions):
        await answer(lab, task_id, 2, i, session)
    assert await lab.chain.roll_calls(task_id) == RollCallState(
        2, dict.fromkeys(owners, STAKE), dict.fromkeys(owners, b""), None
    )
    second = result_of(task_id, {owners[0]: 2 * TOKEN}, 2, epoch=2)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(second, b"", lab.signed(second, sessions[:2]))
    assert (caught.value.reason, caught.value.arguments) == ("QuorumMissing", (2 * STAKE, 3 * STAKE))
    await lab.planner.post_result(second, b"", lab.signed(second, sessions))


async def test_two_halves_cannot_both_go_on(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    await answer(lab, task_id, 1, 0, sessions[0])
    await answer(lab, task_id, 1, 1, sessions[1])
    await close(lab, task_id, 1)
    # Now 0 lies: it is with 1 in this epoch, and offers 2 to go on without 1.
    await answer(lab, task_id, 2, 0, sessions[0])
    await answer(lab, task_id, 2, 2, sessions[2])
    with pytest.raises(Reverted) as caught:
        await close(lab, task_id, 2)
    assert caught.value.reason == "RollCallNotOpen"
    for keys in (sessions[1:], [sessions[0], sessions[2]]):
        result = result_of(task_id, {lab.planner.address: TOKEN}, 1, epoch=1)
        with pytest.raises(Reverted) as caught:
            await lab.planner.post_result(result, b"", lab.signed(result, keys))
        assert caught.value.reason == "QuorumMissing"
    result = result_of(task_id, {lab.planner.address: TOKEN}, 1, epoch=2)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(result, b"", lab.signed(result, sessions))
    assert (caught.value.reason, caught.value.arguments) == ("WrongEpoch", (2, 1))


async def test_an_answer_is_sent_once_and_only_by_its_site(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    assert (await answer(lab, task_id, 1, 1, sessions[1])).tx_hash is not None
    assert (await answer(lab, task_id, 1, 1, sessions[1])).tx_hash is None
    with pytest.raises(Reverted) as caught:
        await answer(lab, task_id, 1, 2, sessions[1])
    assert caught.value.reason == "WrongSigner"
    longest = bytes(range(256)) * 256
    await answer(lab, task_id, 1, 0, sessions[0], longest)
    state = await lab.chain.roll_calls(task_id)
    assert state.call is not None
    assert state.call.answers[lab.planner.address] == longest
    await answer(lab, task_id, 1, 2, sessions[2])
    assert (await lab.planner.close_roll_call(task_id, 1)).tx_hash is None
    assert (await answer(lab, task_id, 1, 2, sessions[2])).tx_hash is None


async def test_what_is_not_deep_enough_does_not_count_yet(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    for i, session in enumerate(sessions):
        await answer(lab, task_id, 1, i, session)
    assert (await lab.chain.roll_calls(task_id, 1)).epoch == 1
    before = await lab.chain.roll_calls(task_id, 2)
    assert before.epoch == 0
    assert before.call is not None
    assert list(before.call.answers) == [wallet.address for wallet in lab.wallets[:2]]
    await lab.rpc("evm_mine")
    assert await lab.chain.roll_calls(task_id, 2) == await lab.chain.roll_calls(task_id)
