"""Every intent is sent until it is mined, and mined at most once: through races, restarts and new histories."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from covey_chain import signing
from covey_chain.anvil import Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all
from covey_chain.errors import ChainError, NonceTaken, Reverted, RpcUnavailable, TransactionLost
from covey_chain.events import EventKind
from covey_chain.journal import Journal
from covey_chain.queue import Pace
from covey_chain.types import Receipt
from covey_chain.wallet import Wallet
from lab import BOTH, CONSORTIUM, TOKEN, WORKER, Lab, result_of, until

pytestmark = pytest.mark.chain

BRISK = Pace(last_poll=0.1, bump=3600)


@pytest.fixture
async def own(lab: Lab) -> Lab:
    """Enrolled members whose wallets look often, for tests that stop and start the blocks."""
    lab.wallets = [Wallet(lab.chain, key, pace=BRISK) for key in lab.node.keys[1:4]]
    await lab.enrol()
    return lab


async def pooled(lab: Lab, count: int) -> list[dict[str, str]]:
    """Wait until `count` transactions wait for a block."""
    found: list[dict[str, str]] = []

    async def there() -> bool:
        content = (await lab.rpc("txpool_content"))["pending"]
        found[:] = [transaction for by_nonce in content.values() for transaction in by_nonce.values()]
        return len(found) == count

    await until(there)
    return found


async def funded(lab: Lab, target: str) -> None:
    """Wait until `target` has coins in the newest block."""

    async def there() -> bool:
        return await lab.chain.native_balance(target) > 0

    await until(there)


async def count(lab: Lab, kind: EventKind) -> int:
    return [e.kind for e in await lab.chain.events(0, await lab.chain.block_number())].count(kind)


def again(lab: Lab, journal: Journal | None = None, key: int = 1, **options: object) -> Wallet:
    """The planner's wallet after a restart, or in another process."""
    return Wallet(lab.chain, lab.node.keys[key], journal=journal, **{"pace": BRISK, **options})  # type: ignore[arg-type]


@BOTH
async def test_an_intent_is_sent_once(lab: Lab) -> None:
    await lab.enrol()
    first = await lab.publish(TOKEN)
    height = await lab.chain.block_number()
    assert await lab.publish(TOKEN) == first
    assert await lab.chain.block_number() == height


@BOTH
async def test_the_same_intent_twice_at_once_is_one_transaction(lab: Lab) -> None:
    await lab.enrol()
    stake = lab.planner.stake_up_to
    receipts = await asyncio.gather(*(stake(CONSORTIUM, lab.deployment.token, 1500 * TOKEN) for _ in range(4)))
    assert sum(receipt.tx_hash is not None for receipt in receipts) == 1
    member = await lab.chain.member(CONSORTIUM, lab.planner.address)
    assert member is not None
    assert member.stake == 1500 * TOKEN


@BOTH
async def test_many_intents_at_once_do_not_take_each_others_nonce(lab: Lab) -> None:
    targets = [signing.address_of(signing.new_key()) for _ in range(8)]
    receipts = await asyncio.gather(*(lab.planner.fund(target, 10**15) for target in targets))
    assert [await lab.chain.native_balance(t) for t in targets] == [10**15] * 8
    assert len({receipt.tx_hash for receipt in receipts}) == 8


@BOTH
async def test_two_tasks_at_once_do_not_take_each_others_allowance(lab: Lab) -> None:
    await lab.enrol()
    salts = [bytes([i]) * 32 for i in range(3)]
    await asyncio.gather(*(lab.publish((i + 1) * TOKEN, salt=salt) for i, salt in enumerate(salts)))
    assert await lab.chain.token_balance(lab.deployment.token, lab.deployment.market) == 6 * TOKEN


async def test_who_starts_a_task_at_the_same_time_as_others_does_not_fail(own: Lab) -> None:
    task_id = await own.publish()
    for wallet in own.wallets:
        await wallet.accept(task_id, WORKER, signing.address_of(signing.new_key()), "")
    await own.rpc("evm_setAutomine", False)
    racing = asyncio.gather(*(wallet.start(task_id) for wallet in own.wallets))
    await pooled(own, 3)
    await own.rpc("evm_mine")
    receipts = await racing
    assert sum(receipt.tx_hash is not None for receipt in receipts) == 1


@BOTH
async def test_validators_that_post_the_same_result_do_not_fail(own: Lab) -> None:
    task_id = await own.publish()
    sessions = [signing.new_key() for _ in own.wallets]
    for wallet, session in zip(own.wallets, sessions, strict=True):
        await wallet.accept(task_id, WORKER, signing.address_of(session), "")
    await own.planner.start(task_id)
    result = result_of(task_id, {own.planner.address: TOKEN})
    await asyncio.gather(*(wallet.post_result(result, b"", own.signed(result, sessions)) for wallet in own.wallets))
    assert await count(own, EventKind.RESULT_POSTED) == 1
    older = replace(result, round=1)
    receipt = await own.planner.post_result(older, b"", own.signed(older, sessions))
    assert receipt.tx_hash is None


async def test_what_reverts_in_its_block_is_named_like_what_reverts_before(own: Lab) -> None:
    task_id = await own.publish(members=1)
    await own.rpc("evm_setAutomine", False)
    racing = asyncio.gather(
        *(w.accept(task_id, WORKER, signing.address_of(signing.new_key()), "") for w in own.wallets[:2]),
        return_exceptions=True,
    )
    await pooled(own, 2)
    await own.rpc("evm_mine")
    receipt, refused = sorted(await racing, key=lambda outcome: isinstance(outcome, Exception))
    assert isinstance(receipt, Receipt)
    assert isinstance(refused, Reverted)
    assert refused.reason == "AlreadyFull"


async def test_a_restart_with_its_journal_finds_what_was_sent(own: Lab, tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    await own.rpc("evm_setAutomine", False)
    target = signing.address_of(signing.new_key())
    before = asyncio.create_task(again(own, Journal(path)).fund(target, 10**15))
    (sent,) = await pooled(own, 1)
    before.cancel()
    after = asyncio.create_task(again(own, Journal(path)).fund(target, 10**15))
    await own.rpc("evm_setAutomine", True)
    await own.rpc("evm_mine")
    receipt = await after
    assert receipt.tx_hash == sent["hash"]
    assert await own.chain.native_balance(target) == 10**15
    assert Journal(path).all() == {}


async def test_what_was_signed_but_not_sent_before_a_restart_is_sent(own: Lab, tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    await own.rpc("evm_setAutomine", False)
    target = signing.address_of(signing.new_key())
    before = asyncio.create_task(again(own, Journal(path)).fund(target, 10**15))
    (sent,) = await pooled(own, 1)
    before.cancel()
    await own.rpc("anvil_dropTransaction", sent["hash"])
    await own.rpc("evm_setAutomine", True)
    # Another intent comes first after the restart: the remembered transaction keeps its nonce and goes out before it.
    wallet = again(own, Journal(path))
    other = signing.address_of(signing.new_key())
    await wallet.fund(other, 10**15)
    receipt = await wallet.fund(target, 10**15)
    assert receipt.tx_hash == sent["hash"]
    assert [await own.chain.native_balance(t) for t in (target, other)] == [10**15] * 2


async def test_a_restart_without_a_journal_does_not_stake_twice(own: Lab) -> None:
    token = own.deployment.token
    await own.planner.stake_up_to(CONSORTIUM, token, 1001 * TOKEN)
    await own.rpc("evm_setAutomine", False)
    allowance = own.chain.token(token).functions.allowance(own.planner.address, own.deployment.registry)

    async def allowed() -> bool:
        return int(await own.chain.call(allowance)) > 0

    before = asyncio.create_task(again(own).stake_up_to(CONSORTIUM, token, 1500 * TOKEN))
    await pooled(own, 1)
    await own.rpc("evm_mine")
    await until(allowed)
    await pooled(own, 1)
    before.cancel()
    after = asyncio.create_task(again(own).stake_up_to(CONSORTIUM, token, 1500 * TOKEN))
    await asyncio.sleep(0.5)
    await own.rpc("evm_setAutomine", True)
    await own.rpc("evm_mine")
    assert (await after).tx_hash is None
    member = await own.chain.member(CONSORTIUM, own.planner.address)
    assert member is not None
    assert member.stake == 1500 * TOKEN


async def test_a_stuck_transaction_gets_higher_fees_under_the_same_nonce(own: Lab) -> None:
    await own.rpc("evm_setAutomine", False)
    target = signing.address_of(signing.new_key())
    wallet = again(own, pace=Pace(last_poll=0.1, bump=0.3))
    funding = asyncio.create_task(wallet.fund(target, 10**15))
    (first,) = await pooled(own, 1)

    async def replaced() -> bool:
        return (await pooled(own, 1))[0]["hash"] != first["hash"]

    await until(replaced)
    (now,) = await pooled(own, 1)
    assert now["nonce"] == first["nonce"]
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        assert int(now[fee], 16) * 10 >= int(first[fee], 16) * 11
    await own.rpc("evm_setAutomine", True)
    await own.rpc("evm_mine")
    assert (await funding).tx_hash is not None
    assert await own.chain.native_balance(target) == 10**15


async def test_what_is_not_mined_in_time_is_found_later(own: Lab) -> None:
    await own.rpc("evm_setAutomine", False)
    target = signing.address_of(signing.new_key())
    wallet = again(own, pace=Pace(last_poll=0.05, give_up=0.3))
    with pytest.raises(TransactionLost, match="was not confirmed within"):
        await wallet.fund(target, 10**15)
    await own.rpc("evm_setAutomine", True)
    await own.rpc("evm_mine")
    assert (await wallet.fund(target, 10**15)).tx_hash is not None
    assert await own.chain.native_balance(target) == 10**15


@BOTH
async def test_another_process_with_the_same_key_costs_no_intent(own: Lab) -> None:
    targets = [signing.address_of(signing.new_key()) for _ in range(6)]
    wallets = [again(own), again(own)]
    await asyncio.gather(*(wallets[i % 2].fund(target, 10**15) for i, target in enumerate(targets)))
    assert [await own.chain.native_balance(t) for t in targets] == [10**15] * 6


async def test_a_foreign_transaction_that_stands_in_the_way_is_named(own: Lab) -> None:
    await own.rpc("evm_setAutomine", False)
    stranger = asyncio.create_task(again(own).fund(signing.address_of(signing.new_key()), 10**15))
    await pooled(own, 1)
    stranger.cancel()
    with pytest.raises(NonceTaken, match="stand in the way at nonce"):
        await again(own, pace=Pace(give_up=0.3)).fund(signing.address_of(signing.new_key()), 10**15)


async def test_confirmations_are_awaited(own: Lab) -> None:
    target = signing.address_of(signing.new_key())
    funding = asyncio.create_task(again(own, confirmations=3).fund(target, 10**15))
    await funded(own, target)
    block = await own.chain.block_number()
    await own.rpc("evm_mine")
    done, _ = await asyncio.wait([funding], timeout=0.5)
    assert not done
    await own.rpc("evm_mine")
    assert (await funding).block == block


@pytest.mark.parametrize("confirmations", [0, 1])
async def test_the_own_block_is_the_first_confirmation(own: Lab, confirmations: int) -> None:
    wallet = again(own, confirmations=confirmations)
    receipt = await asyncio.wait_for(wallet.fund(signing.address_of(signing.new_key()), 10**15), 5)
    assert receipt.block == await own.chain.block_number()


async def test_a_transaction_that_a_new_history_has_lost_is_sent_again(own: Lab) -> None:
    target = signing.address_of(signing.new_key())
    funding = asyncio.create_task(again(own, confirmations=3).fund(target, 10**15))
    await funded(own, target)
    await own.rpc("evm_setAutomine", False)
    await own.rpc("anvil_reorg", 1, [])
    assert await own.chain.native_balance(target) == 0
    await pooled(own, 1)
    await own.rpc("anvil_mine", "0x3")
    assert (await funding).tx_hash is not None
    assert await own.chain.native_balance(target) == 10**15


async def test_a_node_that_dies_leaves_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    with anvil() as node:
        deployment = await deploy_all(node.url, node.keys[0])
        chain = await Chain.connect(node.url, node.chain_id, deployment.settlement)
        lab = Lab(node, deployment, chain, [])
        await lab.rpc("evm_setAutomine", False)
        wallet = Wallet(chain, node.keys[1], journal=Journal(path), pace=BRISK)
        funding = asyncio.create_task(wallet.fund("0x" + "12" * 20, 10**15))
        (sent,) = await pooled(lab, 1)
    with pytest.raises(RpcUnavailable):
        await funding
    (kept,) = Journal(path).all().values()
    assert kept.hashes == (sent["hash"],)
    with pytest.raises(ChainError):
        await wallet.fund("0x" + "12" * 20, 10**15)
    await chain.close()


def test_a_node_is_gone_after_its_block(node: Node) -> None:
    with anvil() as running:
        assert Path(f"/proc/{running.pid}").exists()
    assert not Path(f"/proc/{running.pid}").exists()
    assert Path(f"/proc/{node.pid}").exists()
