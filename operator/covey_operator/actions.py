"""Carries out the one outside effect that a plan asks for: a Secret to make, or an intent for the chain."""

from __future__ import annotations

import asyncio
import hashlib

from covey_chain.types import ZERO_ADDRESS, Role
from eth_utils.crypto import keccak

from covey_operator.keys import new_ray_token, new_session, new_tls, utc_now
from covey_operator.kinds import Object, name_of, namespace_of
from covey_operator.observe import Member, session_address
from covey_operator.plan import model, names
from covey_operator.plan.storage import secret
from covey_operator.world import World


async def make_secret(world: World, owner: Object, action: model.MakeSecret) -> Object:
    """Make one of our Secrets, or take the one that another operator has just made; what is there.

    A session key that cannot be read serves nobody and is replaced; all else stays as it is.

    Raises:
        NameConflictError: somebody else's Secret has that name.
        RefusedError: the API server does not accept it.
    """
    name, namespace = name_of(owner), namespace_of(owner)
    labels = names.labels(name)
    match action:
        case model.MakeSession():
            made = secret(names.session(name), namespace, labels, new_session())
        case model.MakeRayToken():
            made = secret(names.ray_token(name), namespace, labels, new_ray_token())
        case model.MakeTls():
            common = {names.NAME: "covey", names.MANAGED_BY: "covey-operator", names.SUBNET: name}
            made = secret(names.exchange(name), namespace, common, new_tls(name, utc_now()))
    session = isinstance(action, model.MakeSession)
    return await world.kube.make_once(made, owner, lambda live: not session or session_address(live) is not None)


async def transact(
    world: World,
    member: Member,
    action: model.Action,
    task_id: bytes | None,
    session: str | None,
    tls: model.Tls | None,
) -> None:
    """Bring an intent onto the chain and let the mirror see it.

    Raises:
        ChainError: refused, or not reachable; nothing is half done, the same intent may be tried again.
        TimeoutError: not confirmed within COVEY_CHAIN_TIMEOUT_SECONDS; the intent is remembered and looked at again.
    """
    async with asyncio.timeout(world.settings.chain_timeout_seconds):
        match action:
            case model.Register() | model.RaiseStake():
                await _membership(member, action, tls)
            case _:
                assert task_id is not None
                await _task(world, member, action, task_id, session)
        await member.mirror.refresh()


async def _membership(member: Member, action: model.Register | model.RaiseStake, tls: model.Tls | None) -> None:
    consortium = member.chain.consortium
    if isinstance(action, model.RaiseStake):
        await member.wallet.stake_up_to(consortium.id, consortium.stake_token, action.target)
        return
    assert tls is not None
    # The registry keeps a place for a description; until members publish one, it is the hash of nothing.
    description = hashlib.sha256(b"").digest()
    await member.wallet.join(
        consortium.id, Role(action.roles), tls.key_hash, action.endpoint, description, tls.certificate
    )


async def _task(world: World, member: Member, action: model.Action, task_id: bytes, session: str | None) -> None:
    wallet = member.wallet
    match action:
        case model.Publish():
            await wallet.publish(
                consortium=member.chain.consortium.id,
                spec=action.spec,
                spec_hash=keccak(action.spec),
                token=action.token,
                bounty=action.bounty,
                min_members=action.min_members,
                max_members=action.max_members,
                rounds=action.rounds,
                accept_by=action.accept_by,
                deadline=action.deadline,
                answer_window=action.answer_window,
                appeal_window=action.appeal_window,
                fallback_window=action.fallback_window,
                auditor=action.auditor or ZERO_ADDRESS,
                salt=action.salt,
            )
        case model.Accept():
            assert session is not None
            await wallet.fund(session, world.settings.session_funds_wei)
            await wallet.accept(task_id, Role(action.roles), session, action.endpoint)
        case model.Withdraw():
            await wallet.withdraw_acceptance(task_id)
        case model.Start():
            await wallet.start(task_id)
        case model.Cancel():
            await wallet.cancel(task_id)
        case model.Expire():
            await wallet.expire(task_id)
        case model.Claim():
            await wallet.claim(task_id, member.address, action.cumulative, action.proof)
        case _:
            raise TypeError(f"{type(action).__name__} is not an intent for the chain")
