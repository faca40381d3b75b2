"""What the contracts refuse reaches the caller as the name of the error and a remedy in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_chain import signing
from covey_chain.errors import InsufficientFunds, Reverted
from covey_chain.types import Role
from covey_chain.wallet import Wallet
from eth_utils.crypto import keccak
from lab import CONSORTIUM, TOKEN, WORKER, Lab, result_of

pytestmark = pytest.mark.chain


async def test_two_thirds_exactly_are_not_enough(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.planner.address: TOKEN})
    with pytest.raises(Reverted, match="collect signatures of more than 2/3") as caught:
        await lab.planner.post_result(result, b"", lab.signed(result, sessions[:2]))
    assert (caught.value.reason, caught.value.arguments) == ("QuorumMissing", (2000 * TOKEN, 3000 * TOKEN))


async def test_a_foreign_signature_counts_nothing_and_does_no_harm(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.planner.address: TOKEN})
    with pytest.raises(Reverted, match="session keys") as caught:
        await lab.planner.post_result(result, b"", lab.signed(result, [*sessions[:2], signing.new_key()]))
    assert caught.value.reason == "QuorumMissing"
    await lab.planner.post_result(result, b"", lab.signed(result, [*sessions, signing.new_key()]))
    assert (await lab.chain.settlement(task_id)).round == result.round


async def test_a_broken_signature_is_refused(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.planner.address: TOKEN})
    signatures = lab.signed(result, sessions)
    first = min(signatures, key=str.lower)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(result, b"", {**signatures, first: signatures[first][:64] + b"\x02"})
    assert (caught.value.reason, caught.value.arguments) == ("BadSignature", (0,))


async def test_a_result_beyond_the_last_round_is_refused(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.planner.address: TOKEN}, round_=5)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(result, b"", lab.signed(result, sessions))
    assert (caught.value.reason, caught.value.arguments) == ("RoundBeyondEnd", (5, 4))


async def test_rewards_stay_between_what_was_settled_and_the_bounty(lab: Lab) -> None:
    task_id, sessions = await lab.started(bounty=10 * TOKEN)
    result = result_of(task_id, {lab.planner.address: 11 * TOKEN}, round_=1)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(result, b"", lab.signed(result, sessions))
    assert caught.value.reason == "RewardAboveBounty"
    result = result_of(task_id, {lab.planner.address: 5 * TOKEN}, round_=1, last=False)
    await lab.planner.post_result(result, b"", lab.signed(result, sessions))
    less = replace(result, round=2, total_reward=4 * TOKEN)
    with pytest.raises(Reverted) as caught:
        await lab.planner.post_result(less, b"", lab.signed(less, sessions))
    assert caught.value.reason == "RewardDecreased"


async def test_a_reward_is_claimed_with_its_own_proof_only(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    result = result_of(task_id, {lab.planner.address: TOKEN})
    await lab.planner.post_result(result, b"", lab.signed(result, sessions))
    with pytest.raises(Reverted, match="newest result") as caught:
        await lab.planner.claim(task_id, lab.wallets[1].address, TOKEN, [])
    assert caught.value.reason == "ProofInvalid"


async def test_a_full_task_takes_nobody_more(lab: Lab) -> None:
    await lab.enrol()
    task_id = await lab.publish(members=1)
    await lab.planner.accept(task_id, WORKER, signing.address_of(signing.new_key()), "")
    with pytest.raises(Reverted) as caught:
        await lab.wallets[1].accept(task_id, WORKER, signing.address_of(signing.new_key()), "")
    assert caught.value.reason == "AlreadyFull"


async def test_who_is_no_member_or_has_no_stake_takes_no_part(lab: Lab) -> None:
    await lab.enrol(lab.wallets[:1])
    task_id = await lab.publish()
    session = signing.address_of(signing.new_key())
    with pytest.raises(Reverted) as caught:
        await lab.wallets[1].accept(task_id, WORKER, session, "")
    assert caught.value.reason == "NotMember"
    await lab.join(lab.wallets[1], 1)
    with pytest.raises(Reverted, match=r"raise spec\.stake") as caught:
        await lab.wallets[1].accept(task_id, WORKER, session, "")
    assert (caught.value.reason, caught.value.arguments) == ("StakeTooLow", (0, 10 * TOKEN))


async def test_terms_that_cannot_be_kept_name_their_field(lab: Lab) -> None:
    await lab.enrol()
    with pytest.raises(Reverted, match=r"BadTerms\(rounds\)"):
        await lab.publish(rounds=0)
    with pytest.raises(Reverted) as caught:
        await lab.publish(spec_hash=keccak(b"another"))
    assert caught.value.reason == "SpecMismatch"


async def test_a_start_before_its_time_says_what_is_awaited(lab: Lab) -> None:
    await lab.enrol()
    task_id = await lab.publish()
    with pytest.raises(Reverted, match="wait until enough members have accepted") as caught:
        await lab.planner.start(task_id)
    assert (caught.value.reason, caught.value.arguments) == ("TooFewMembers", (0, 3))


async def test_who_was_not_admitted_does_not_join(lab: Lab) -> None:
    await lab.planner.create_consortium("oncology-eu", lab.deployment.token, TOKEN, admission=1)
    await lab.join(lab.planner)
    with pytest.raises(Reverted) as caught:
        await lab.join(lab.wallets[1], 1)
    assert caught.value.reason == "NotAdmitted"


async def test_stake_that_is_still_bonded_stays(lab: Lab) -> None:
    await lab.enrol()
    await lab.planner.unstake_down_to(CONSORTIUM, 0)
    with pytest.raises(Reverted, match="unbonding") as caught:
        await lab.planner.withdraw(CONSORTIUM)
    assert caught.value.reason == "StillBonded"


async def test_a_bounty_above_the_balance_names_both(lab: Lab) -> None:
    await lab.enrol()
    with pytest.raises(InsufficientFunds, match=r"needs 1000000\.5 DEV for bounty and has 99000 DEV"):
        await lab.publish(10**6 * TOKEN + TOKEN // 2)


async def test_a_stake_above_the_balance_names_both(lab: Lab) -> None:
    await lab.enrol()
    with pytest.raises(InsufficientFunds, match="needs 199000 DEV for stake and has 99000 DEV"):
        await lab.planner.stake_up_to(CONSORTIUM, lab.deployment.token, 200_000 * TOKEN)


async def test_a_wallet_without_gas_names_what_it_needs(lab: Lab) -> None:
    poor = Wallet(lab.chain, "0x" + signing.new_key().hex())
    await lab.planner.create_consortium("oncology-eu", lab.deployment.token, TOKEN)
    with pytest.raises(InsufficientFunds, match=r"needs 0\.\d+ native coin for gas of join and has 0 native coin"):
        await lab.join(poor)
    with pytest.raises(InsufficientFunds, match=r"needs 1 native coin for the funding of 0x"):
        await poor.fund(lab.planner.address, await lab.chain.native_balance(lab.planner.address) + 10**18)


async def test_roles_that_a_member_lacks_are_refused(lab: Lab) -> None:
    await lab.enrol()
    await lab.wallets[1].join(CONSORTIUM, Role.TRAINER, b"\x02" * 32, "10.0.0.1", bytes(32), b"certificate")
    task_id = await lab.publish()
    with pytest.raises(Reverted) as caught:
        await lab.wallets[1].accept(task_id, WORKER, signing.address_of(signing.new_key()), "")
    assert (caught.value.reason, caught.value.arguments) == ("RolesNotHeld", (6, 2))
