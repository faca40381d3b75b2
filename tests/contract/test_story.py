"""The way of a task through the contracts, on a real node."""

from __future__ import annotations

import pytest
from covey_chain import connection, signing
from covey_chain.events import EventKind
from covey_chain.merkle import RewardTree
from covey_chain.types import Role, RoundResult, TaskStatus
from lab import BOTH, CONSORTIUM, SPEC, TOKEN, WORKER, Lab, result_of

pytestmark = pytest.mark.chain


@BOTH
async def test_a_task_is_published_accepted_settled_and_paid(lab: Lab) -> None:
    chain, wallets = lab.chain, lab.wallets
    before = await lab.holdings()
    task_id, sessions = await lab.started()
    task = await chain.task(task_id)
    assert task is not None
    assert (task.spec, task.status, task.planner) == (SPEC, TaskStatus.STARTED, wallets[0].address)
    assert await chain.tasks(CONSORTIUM) == [task]
    participants = await chain.participants(task_id)
    assert [p.address for p in participants] == sorted((w.address for w in wallets), key=str.lower)
    assert {p.session_key for p in participants} == {signing.address_of(key) for key in sessions}
    assert all(p.stake == 1000 * TOKEN and p.certificate.startswith(b"certificate") for p in participants)
    known = {member.address: member for member in await chain.members(CONSORTIUM)}
    assert await chain.participants(task_id, known) == participants

    rewards = {wallets[0].address: 900 * TOKEN, wallets[1].address: 1000 * TOKEN, wallets[2].address: 1100 * TOKEN - 7}
    result = result_of(task_id, rewards)
    planners = await chain.token_balance(lab.deployment.token, wallets[0].address)
    await wallets[1].post_result(result, b"", lab.signed(result, sessions))
    assert await chain.token_balance(lab.deployment.token, wallets[0].address) - planners == 7
    state = await chain.settlement(task_id)
    assert (state.round, state.last, state.model_digest) == (4, True, result.model_digest)
    assert (state.reward_root, state.total_reward) == (result.reward_root, 3000 * TOKEN - 7)

    tree = RewardTree(rewards, task_id)
    for wallet in wallets:
        held = await chain.token_balance(lab.deployment.token, wallet.address)
        await wallets[0].claim(task_id, wallet.address, rewards[wallet.address], tree.proof(wallet.address))
        assert await chain.token_balance(lab.deployment.token, wallet.address) - held == rewards[wallet.address]
        assert await chain.claimed(task_id, wallet.address) == rewards[wallet.address]
    assert await lab.holdings() == before
    assert await chain.token_balance(lab.deployment.token, lab.deployment.market) == 0


@BOTH
async def test_events_tell_the_story_in_order(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    rewards = {wallet.address: TOKEN for wallet in lab.wallets}
    result = result_of(task_id, rewards)
    receipt = await lab.wallets[1].post_result(result, b"", lab.signed(result, sessions))
    proof = RewardTree(rewards, task_id).proof(lab.planner.address)
    await lab.planner.claim(task_id, lab.planner.address, TOKEN, proof)
    events = [e for e in await lab.chain.events(0, await lab.chain.block_number()) if e.task_id == task_id]
    assert [e.kind for e in events] == [
        EventKind.TASK_PUBLISHED,
        *[EventKind.TASK_ACCEPTED] * 3,
        EventKind.TASK_STARTED,
        EventKind.RESULT_POSTED,
        EventKind.TASK_FINISHED,
        EventKind.REWARD_CLAIMED,
    ]
    posted = events[-3]
    assert (posted.tx_hash, posted.block) == (receipt.tx_hash, receipt.block)
    assert posted.arguments["updatesRoot"] == result.updates_root
    assert posted.arguments["scoresRoot"] == result.scores_root
    assert posted.arguments["accepted"] is True


@pytest.mark.parametrize("blocks", [1, 2, 7])
@BOTH
async def test_events_of_a_long_history_are_asked_for_in_pieces(
    lab: Lab, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.enrol()
    head = await lab.chain.block_number()
    whole = await lab.chain.events(head - 15, head)
    monkeypatch.setattr(connection, "LOG_BLOCKS", blocks)
    assert await lab.chain.events(head - 15, head) == whole
    assert len(whole) == 7
    assert await lab.chain.events(head + 1, head) == []


@BOTH
async def test_a_member_changes_its_key_and_end_point(lab: Lab) -> None:
    await lab.enrol()
    wallet = lab.wallets[1]
    await wallet.join(CONSORTIUM, WORKER, b"\x77" * 32, "new.example:7443", b"\x01" * 32, b"new certificate")
    member = await lab.chain.member(CONSORTIUM, wallet.address)
    assert member is not None
    assert (member.roles, member.tls_key_hash, member.endpoint) == (WORKER, b"\x77" * 32, "new.example:7443")
    assert (member.certificate, member.metadata_hash) == (b"new certificate", b"\x01" * 32)
    assert [m.address for m in await lab.chain.members(CONSORTIUM)] == [w.address for w in lab.wallets]


@BOTH
async def test_a_rotated_session_key_replaces_the_old_one(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    fresh = signing.new_key()
    await lab.wallets[2].accept(task_id, WORKER, signing.address_of(fresh), "10.0.0.9:7443")
    found = {p.address: p for p in await lab.chain.participants(task_id)}[lab.wallets[2].address]
    assert (found.session_key, found.endpoint) == (signing.address_of(fresh), "10.0.0.9:7443")
    assert found.stake == 1000 * TOKEN
    result = result_of(task_id, {lab.planner.address: TOKEN})
    await lab.planner.post_result(result, b"", lab.signed(result, [*sessions[:2], fresh]))
    assert (await lab.chain.settlement(task_id)).last


async def test_stake_moves_to_its_target_and_leaves_after_the_unbonding_time(lab: Lab) -> None:
    await lab.enrol()
    wallet, token = lab.wallets[1], lab.deployment.token
    held = await lab.chain.token_balance(token, wallet.address)
    await wallet.unstake_down_to(CONSORTIUM, 400 * TOKEN)
    member = await lab.chain.member(CONSORTIUM, wallet.address)
    assert member is not None
    assert (member.stake, member.unbonding) == (400 * TOKEN, 600 * TOKEN)
    await lab.rpc("evm_increaseTime", 604_800)
    await lab.rpc("evm_mine")
    await wallet.withdraw(CONSORTIUM)
    assert await lab.chain.token_balance(token, wallet.address) == held + 600 * TOKEN
    await wallet.stake_up_to(CONSORTIUM, token, 500 * TOKEN)
    member = await lab.chain.member(CONSORTIUM, wallet.address)
    assert member is not None
    assert (member.stake, member.unbonding) == (500 * TOKEN, 0)


@BOTH
async def test_a_consortium_by_vote_takes_whom_its_members_admit(lab: Lab) -> None:
    await lab.planner.create_consortium("oncology-eu", lab.deployment.token, TOKEN, admission=1)
    await lab.join(lab.planner)
    await lab.planner.admit(CONSORTIUM, lab.wallets[1].address)
    await lab.join(lab.wallets[1], 1)
    assert len(await lab.chain.members(CONSORTIUM)) == 2


@BOTH
async def test_a_cancelled_task_returns_its_bounty(lab: Lab) -> None:
    await lab.enrol()
    held = await lab.chain.token_balance(lab.deployment.token, lab.planner.address)
    task_id = await lab.publish(5 * TOKEN)
    await lab.planner.cancel(task_id)
    assert await lab.chain.token_balance(lab.deployment.token, lab.planner.address) == held
    assert await lab.chain.task_status(task_id) == TaskStatus.CANCELLED


async def test_an_expired_task_returns_what_nobody_has_earned(lab: Lab) -> None:
    held = await lab.chain.token_balance(lab.deployment.token, lab.planner.address)
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.wallets[1].address: 10 * TOKEN}, round_=1, last=False)
    await lab.wallets[1].post_result(result, b"", lab.signed(result, sessions))
    await lab.rpc("evm_increaseTime", 7200 + 86_400)
    await lab.rpc("evm_mine")
    await lab.wallets[2].expire(task_id)
    stake = 1000 * TOKEN
    assert await lab.chain.token_balance(lab.deployment.token, lab.planner.address) == held - stake - 10 * TOKEN
    await lab.planner.claim(task_id, lab.wallets[1].address, 10 * TOKEN, [])
    assert await lab.chain.token_balance(lab.deployment.token, lab.deployment.market) == 0


@BOTH
async def test_who_withdraws_its_acceptance_takes_no_part(lab: Lab) -> None:
    await lab.enrol()
    task_id = await lab.publish()
    session = signing.address_of(signing.new_key())
    await lab.wallets[1].accept(task_id, Role.TRAINER, session, "10.0.0.1:7443")
    await lab.wallets[1].withdraw_acceptance(task_id)
    assert await lab.chain.participants(task_id) == []


@BOTH
async def test_what_does_not_exist_is_none(lab: Lab) -> None:
    assert await lab.chain.consortium("nowhere") is None
    assert await lab.chain.member(CONSORTIUM, lab.planner.address) is None
    assert await lab.chain.task(bytes(32)) is None
    assert await lab.chain.members(CONSORTIUM) == []
    assert (await lab.chain.settlement(bytes(32))).round == 0


@BOTH
async def test_signatures_are_those_of_the_contract(lab: Lab) -> None:
    result = RoundResult(b"\x09" * 32, 3, 2, *(bytes(32),) * 4, b"\x07" * 32, 17, False, True)
    values = (result.task_id, 3, 2, *(bytes(32),) * 4, b"\x07" * 32, 17, False, True)
    on_chain = await lab.chain.call(lab.chain.settlement_contract.functions.digestOf(values))
    assert bytes(on_chain) == signing.digest(lab.chain.domain, result)
