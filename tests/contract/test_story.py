"""The way of a task through the contracts, on a real node."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from covey_chain import signing
from covey_chain.anvil import Node, free_port
from covey_chain.client import Chain
from covey_chain.errors import BadWalletKey, InsufficientFunds, NoContract, Reverted, RpcUnavailable, WrongChain
from covey_chain.events import EventKind
from covey_chain.merkle import RewardTree
from covey_chain.types import Deployment, Role, RoundResult, TaskStatus
from covey_chain.wallet import Wallet
from eth_utils.crypto import keccak

pytestmark = pytest.mark.chain
TOKEN = 10**18
ALL = Role.PLANNER | Role.TRAINER | Role.VALIDATOR
SPEC = b'{"name":"wdbc"}'


async def consortium(chain: Chain, deployment: Deployment, wallets: list[Wallet]) -> bytes:
    await wallets[0].create_consortium("oncology-eu", deployment.token, 10 * TOKEN)
    found = await chain.consortium("oncology-eu")
    assert found is not None
    for i, wallet in enumerate(wallets):
        await wallet.join(found.id, ALL, bytes([i + 1]) * 32, f"10.0.0.{i}", bytes(32), b"certificate" + bytes([i]))
        await wallet.stake_up_to(found.id, deployment.token, 1000 * TOKEN)
    return found.id


async def publish(chain: Chain, deployment: Deployment, planner: Wallet, identity: bytes, bounty: int) -> bytes:
    now = await chain.timestamp()
    task_id, _ = await planner.publish(
        consortium=identity,
        spec=SPEC,
        spec_hash=keccak(SPEC),
        token=deployment.token,
        bounty=bounty,
        min_members=3,
        max_members=3,
        rounds=4,
        accept_by=now + 3600,
        deadline=now + 7200,
        salt=keccak(text="uid-1"),
    )
    return task_id


async def started(
    chain: Chain, deployment: Deployment, wallets: list[Wallet], bounty: int = 3000 * TOKEN
) -> tuple[bytes, list[bytes]]:
    task_id = await publish(chain, deployment, wallets[0], await consortium(chain, deployment, wallets), bounty)
    sessions = [signing.new_key() for _ in wallets]
    for wallet, session in zip(wallets, sessions, strict=True):
        await wallet.accept(task_id, Role.TRAINER | Role.VALIDATOR, signing.address_of(session), "10.0.0.1:7443")
    await wallets[0].start(task_id)
    return task_id, sessions


def signed(chain: Chain, result: RoundResult, sessions: list[bytes]) -> dict[str, bytes]:
    return {signing.address_of(key): signing.sign(chain.domain, result, key) for key in sessions}


def result_of(task_id: bytes, rewards: dict[str, int], round_: int = 4, last: bool = True) -> RoundResult:
    root = RewardTree(rewards, task_id).root
    return RoundResult(
        task_id, round_, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, root, sum(rewards.values()), True, last
    )


async def test_a_task_is_published_accepted_settled_and_paid(
    chain: Chain, deployment: Deployment, wallets: list[Wallet]
) -> None:
    everybody = [w.address for w in wallets] + [chain.registry_contract.address, chain.market_contract.address]

    async def total() -> int:
        return sum([await chain.token_balance(deployment.token, address) for address in everybody])

    before = await total()
    task_id, sessions = await started(chain, deployment, wallets)
    task = await chain.task(task_id)
    assert task is not None
    assert (task.spec, task.status, task.planner) == (SPEC, TaskStatus.STARTED, wallets[0].address)
    participants = await chain.participants(task_id)
    assert {p.address for p in participants} == {w.address for w in wallets}
    assert all(p.stake == 1000 * TOKEN and p.certificate.startswith(b"certificate") for p in participants)

    rewards = {wallets[0].address: 900 * TOKEN, wallets[1].address: 1000 * TOKEN, wallets[2].address: 1100 * TOKEN - 7}
    result = result_of(task_id, rewards)
    await wallets[1].post_result(result, signed(chain, result, sessions))
    state = await chain.settlement(task_id)
    assert (state.round, state.last, state.model_digest) == (4, True, result.model_digest)

    tree = RewardTree(rewards, task_id)
    for wallet in wallets:
        held = await chain.token_balance(deployment.token, wallet.address)
        await wallet.claim(task_id, wallet.address, rewards[wallet.address], tree.proof(wallet.address))
        assert await chain.token_balance(deployment.token, wallet.address) - held == rewards[wallet.address]
    assert await total() == before
    assert await chain.token_balance(deployment.token, chain.market_contract.address) == 0

    kinds = [e.kind for e in await chain.events(0, await chain.block_number()) if e.task_id == task_id]
    assert kinds.count(EventKind.TASK_ACCEPTED) == 3
    assert kinds[-1] == EventKind.REWARD_CLAIMED


async def test_an_intent_is_sent_once(chain: Chain, deployment: Deployment, wallets: list[Wallet]) -> None:
    identity = await consortium(chain, deployment, wallets)
    first = await publish(chain, deployment, wallets[0], identity, TOKEN)
    height = await chain.block_number()
    assert await publish(chain, deployment, wallets[0], identity, TOKEN) == first
    assert await chain.block_number() == height


async def test_two_thirds_exactly_are_not_enough(chain: Chain, deployment: Deployment, wallets: list[Wallet]) -> None:
    task_id, sessions = await started(chain, deployment, wallets)
    result = result_of(task_id, {w.address: TOKEN for w in wallets})
    with pytest.raises(Reverted, match="QuorumMissing") as caught:
        await wallets[0].post_result(result, signed(chain, result, sessions[:2]))
    assert caught.value.reason == "QuorumMissing"


async def test_a_foreign_signature_is_refused(chain: Chain, deployment: Deployment, wallets: list[Wallet]) -> None:
    task_id, sessions = await started(chain, deployment, wallets)
    result = result_of(task_id, {w.address: TOKEN for w in wallets})
    with pytest.raises(Reverted, match="UnknownSigner"):
        await wallets[0].post_result(result, signed(chain, result, [*sessions, signing.new_key()]))


async def test_rounds_only_go_forward(chain: Chain, deployment: Deployment, wallets: list[Wallet]) -> None:
    task_id, sessions = await started(chain, deployment, wallets)
    result = result_of(task_id, {w.address: TOKEN for w in wallets}, round_=2, last=False)
    await wallets[0].post_result(result, signed(chain, result, sessions))
    older = replace(result, round=1)
    receipt = await wallets[1].post_result(older, signed(chain, older, sessions))
    assert receipt.tx_hash is None
    assert (await chain.settlement(task_id)).round == 2


async def test_rewards_above_the_bounty_are_refused(
    chain: Chain, deployment: Deployment, wallets: list[Wallet]
) -> None:
    task_id, sessions = await started(chain, deployment, wallets, bounty=TOKEN)
    result = result_of(task_id, {w.address: TOKEN for w in wallets})
    with pytest.raises(Reverted, match="RewardAboveBounty"):
        await wallets[0].post_result(result, signed(chain, result, sessions))


async def test_a_cancelled_task_returns_its_bounty(chain: Chain, deployment: Deployment, wallets: list[Wallet]) -> None:
    identity = await consortium(chain, deployment, wallets)
    held = await chain.token_balance(deployment.token, wallets[0].address)
    task_id = await publish(chain, deployment, wallets[0], identity, 5 * TOKEN)
    await wallets[0].cancel(task_id)
    assert await chain.token_balance(deployment.token, wallets[0].address) == held


async def test_a_bounty_above_the_balance_names_both(
    chain: Chain, deployment: Deployment, wallets: list[Wallet]
) -> None:
    identity = await consortium(chain, deployment, wallets)
    with pytest.raises(InsufficientFunds, match=r"needs 1e\+06 DEV for bounty and has 99000 DEV"):
        await publish(chain, deployment, wallets[0], identity, 10**6 * TOKEN)


async def test_many_intents_at_once_do_not_take_each_others_nonce(
    chain: Chain, deployment: Deployment, wallets: list[Wallet]
) -> None:
    targets = [signing.address_of(signing.new_key()) for _ in range(8)]
    await asyncio.gather(*(wallets[0].fund(target, 10**15) for target in targets))
    assert [await chain.native_balance(t) for t in targets] == [10**15] * 8


async def test_what_is_wrong_with_a_connection_is_told_apart(node: Node, deployment: Deployment) -> None:
    with pytest.raises(RpcUnavailable, match=r"chain\.rpcUrl"):
        await Chain.connect(f"http://127.0.0.1:{free_port()}", node.chain_id, deployment.settlement)
    with pytest.raises(WrongChain, match=r"chain\.chainId"):
        await Chain.connect(node.url, 1, deployment.settlement)
    with pytest.raises(NoContract, match=r"chain\.contract"):
        await Chain.connect(node.url, node.chain_id, "0x" + "12" * 20)


async def test_a_bad_key_is_refused_without_showing_it(chain: Chain) -> None:
    with pytest.raises(BadWalletKey) as caught:
        Wallet(chain, "0x1234secret")
    assert "secret" not in str(caught.value)


async def test_signatures_are_those_of_the_contract(chain: Chain, deployment: Deployment) -> None:
    result = RoundResult(b"\x09" * 32, 3, bytes(32), bytes(32), bytes(32), bytes(32), 17, False, True)
    values = (result.task_id, 3, bytes(32), bytes(32), bytes(32), bytes(32), 17, False, True)
    on_chain = await chain.call(chain.settlement_contract.functions.digestOf(values))
    assert bytes(on_chain) == signing.digest(chain.domain, result)
