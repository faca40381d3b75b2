"""Contracts on a development chain, and a consortium whose members have accepted and started a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from covey_api.quantity import duration_seconds
from covey_api.terms import TaskTerms
from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.types import ZERO_ADDRESS, Role
from covey_chain.wallet import Wallet
from eth_utils.crypto import keccak

from covey_consortium.member import Member

STAKE = 100 * 10**18
BOUNTY = 1000 * 10**18
SESSION_FUNDS = 10**17
CONSORTIUM = "numbers"


BeforeStart = Callable[[Chain, bytes], Awaitable[None]]


async def convene(
    node: Node, terms: TaskTerms, members: Sequence[Member], salt: bytes, before_start: BeforeStart | None = None
) -> tuple[Chain, bytes]:
    """Deploy, register and stake all members, publish the task, accept and start it; then validators may start.

    Args:
        node: key 0 deploys, and must belong to no member.
        terms: of the task.
        members: the first is the Planner as well.
        salt: makes the task's id.
        before_start: what members do who have accepted.

    Returns:
        The chain, for the caller to close, and the task's id.
    """
    deployment = await deploy_all(node.url, node.keys[0])
    chain = await Chain.connect(node.url, node.chain_id, deployment.settlement)
    wallets = [Wallet(chain, member.owner_key) for member in members]
    for wallet in wallets:
        await mint(node.url, node.keys[0], deployment.token, wallet.address, STAKE + BOUNTY)
    await wallets[0].create_consortium(CONSORTIUM, deployment.token, 1)
    consortium = keccak(text=CONSORTIUM)
    for member, wallet in zip(members, wallets, strict=True):
        tls_key_hash, certificate = member.prepare()
        roles = Role.PLANNER | Role.TRAINER | Role.VALIDATOR
        await wallet.join(consortium, roles, tls_key_hash, member.endpoint, bytes(32), certificate)
        await wallet.stake_up_to(consortium, deployment.token, STAKE)
    now = await chain.timestamp()
    spec = terms.canonical()
    task_id, _ = await wallets[0].publish(
        consortium=consortium,
        spec=spec,
        spec_hash=keccak(spec),
        token=deployment.token,
        bounty=BOUNTY,
        min_members=len(members),
        max_members=len(members),
        rounds=terms.rounds.count,
        accept_by=now + 3600,
        deadline=now + 7200,
        answer_window=duration_seconds(terms.rounds.answer_window),
        fallback_window=duration_seconds(terms.rounds.fallback_window),
        appeal_window=terms.incentives.appeal_window_seconds,
        auditor=terms.incentives.auditor or ZERO_ADDRESS,
        salt=salt,
    )
    for member, wallet in zip(members, wallets, strict=True):
        session = Wallet(chain, "0x" + member.session_key.hex())
        await wallet.fund(session.address, SESSION_FUNDS)
        await wallet.accept(task_id, Role.TRAINER | Role.VALIDATOR, session.address, member.endpoint)
        member.configure(chain, task_id, terms.name)
    if before_start is not None:
        await before_start(chain, task_id)
    await wallets[0].start(task_id)
    return chain, task_id
