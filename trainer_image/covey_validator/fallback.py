"""One site's part in the end of a task whose quorum is gone (ADR 0013).

What more than 2/3 of the stake have signed is settled first. Only what the contract does not take any more is said by
commit and reveal, and settled by medians. The same steps serve the validator and `covey fallback`; each is safe to
repeat, and what a commitment needs to be opened is on disk before it is sent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

from covey_api.base import ApiModel
from covey_chain.client import Chain
from covey_chain.errors import ChainError, Reverted
from covey_chain.fallback import FallbackPhase, FallbackState, commitment, medians
from covey_chain.merkle import RewardTree
from covey_chain.wallet import Wallet

from covey_validator.node import Node
from covey_validator.records import Bytes32, Units
from covey_validator.store import Store
from covey_validator.task import Task

FILE = "fallback"
LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 1.0, 30.0
LOOKS_IN_A_WINDOW = 20
_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[tuple[Chain, Wallet]]]


class Said(ApiModel):
    """What a site says that all have earned, and the salt that hid it; without them its commitment is lost."""

    rewards: dict[str, Units]
    salt: Bytes32


def has_say(state: FallbackState, site: str, rewards: Mapping[str, int], settled: Mapping[str, int] | None) -> bool:
    """Whether a site should commit: it knows of rewards that are not settled, or somebody says that there are.

    Args:
        state: of the chain.
        site: our own address.
        rewards: member -> what it has earned, as far as we know.
        settled: member -> what has been settled; None if we do not know.
    """
    if site not in state.active:
        return False
    more = settled is None or any(amount > settled.get(member, 0) for member, amount in rewards.items())
    return more or bool(state.committed)


class FallbackSite:
    """What one site does in the fallback of one task.

    Args:
        task: as the chain has it.
        site: our own address.
        store: our state of the task.
    """

    def __init__(self, task: Task, site: str, store: Store) -> None:
        self._task, self._site, self._store = task, site, store

    async def step(self, chain: Chain, wallet: Wallet, rewards: Mapping[str, int] | None = None) -> str:
        """Do what can be done now, and say what that was and what comes next.

        Args:
            chain: the contracts.
            wallet: the member's, or one with its session key.
            rewards: member -> all that it has earned, to say instead of what the records have.

        Raises:
            ChainError: refused, or no answer; nothing is half done.
        """
        state = await chain.fallback(self._task.task_id)
        match state.phase(await _now(chain)):
            case FallbackPhase.WAITING:
                return f"The fallback begins at the task's deadline, {_at(state.deadline)}."
            case FallbackPhase.COMMITTING:
                return await self._commit(chain, wallet, state, rewards)
            case FallbackPhase.REVEALING:
                return await self._reveal(wallet, state)
            case FallbackPhase.SETTLING:
                return await self._settle(chain, wallet, state)
            case FallbackPhase.CLOSED:
                paid = await self._claim(chain, wallet)
                way = "was settled by medians" if state.settled_block else "is not settled by medians"
                return f"The task {way}. {paid}"

    async def _commit(self, chain: Chain, wallet: Wallet, state: FallbackState, given: Mapping[str, int] | None) -> str:
        task_id, site = self._task.task_id, self._site
        after = _at(state.deadline + state.window)
        if site in state.committed and given is None and self._said() is not None:
            return f"Committed; reveal from {after} on."
        posted = await self._post(chain, wallet)
        paid = await self._claim(chain, wallet)
        known = self._store.newest_result()
        rewards = dict(given) if given is not None else dict(known.rewards) if known is not None else {}
        if not has_say(state, site, rewards, await self._settled(chain)):
            return f"{posted}{paid} Nothing is known to be earned beyond what is settled."
        said = self._said()
        if said is None or said.rewards != rewards:
            said = Said(rewards=rewards, salt=secrets.token_bytes(32))
            self._store.put(FILE, said)
        place = (chain.chain_id, chain.fallback_contract.address, task_id, site)
        digest = commitment(*place, _ordered(said, state), said.salt)
        await wallet.commit_rewards(task_id, site, digest)
        return f"{posted}{paid} Committed; reveal from {after} on."

    async def _reveal(self, wallet: Wallet, state: FallbackState) -> str:
        said, after = self._said(), _at(state.deadline + 2 * state.window)
        if self._site in state.revealed:
            return f"Revealed; the medians can be settled from {after} on."
        if said is None or self._site not in state.committed:
            return f"Nothing was committed to in time; others may settle from {after} on."
        await wallet.reveal_rewards(self._task.task_id, self._site, _ordered(said, state), said.salt)
        return f"Revealed; the medians can be settled from {after} on."

    async def _settle(self, chain: Chain, wallet: Wallet, state: FallbackState) -> str:
        settled = await self._settled(chain)
        if settled is None:
            return "The newest settled result is not among our records; another member has to settle."
        before = [settled.get(member, 0) for member in state.stakes]
        await wallet.settle_by_medians(self._task.task_id, before, medians(state))
        return f"The task is settled by medians. {await self._claim(chain, wallet)}"

    async def _post(self, chain: Chain, wallet: Wallet) -> str:
        """Settle the newest result that a quorum has signed, due or not."""
        record = self._store.newest_result()
        if record is None or (await chain.settlement(self._task.task_id)).round >= record.round:
            return ""
        try:
            await wallet.post_result(record.result, record.ledger, self._task.signers.by_signer(record))
        except Reverted as error:
            _log.warning("the newest certified result cannot be settled any more: %s", error)
            return f"The result of round {record.round} is not taken: {error}. "
        return f"The result of round {record.round} is settled. "

    async def _claim(self, chain: Chain, wallet: Wallet) -> str:
        """Have our own settled reward paid."""
        task_id, site = self._task.task_id, self._site
        rewards = await chain.settled_by_medians(task_id) or await self._settled(chain)
        if not rewards or rewards.get(site, 0) <= await chain.claimed(task_id, site):
            return "There is nothing to claim."
        await wallet.claim(task_id, site, rewards[site], RewardTree(rewards, task_id).proof(site))
        return f"{rewards[site]} base units have been paid."

    async def _settled(self, chain: Chain) -> Mapping[str, int] | None:
        """Member -> cumulative reward of the newest result on chain; None if our records lack it."""
        state = await chain.settlement(self._task.task_id)
        if state.round == 0:
            return {}
        record = self._store.certified(state.round)
        return record.rewards if record is not None and record.reward_root == state.reward_root else None

    def _said(self) -> Said | None:
        data = self._store.get(FILE)
        return Said.model_validate_json(data) if data else None


async def run(connect: Connect, node: Node) -> None:
    """The validator's part: nothing before the deadline, then a look now and then; runs for ever."""
    site = FallbackSite(node.task, node.site, node.store)
    deadline, pause = None, LOOK_SECONDS_MAX
    while True:
        try:
            chain, wallet = await connect()
            if deadline is None:
                state = await chain.fallback(node.task.task_id)
                deadline = state.deadline
                pause = min(max(state.window / LOOKS_IN_A_WINDOW, LOOK_SECONDS_MIN), LOOK_SECONDS_MAX)
            if await _now(chain) >= deadline:
                done = await site.step(chain, wallet)
                node.progress.message = f"past the deadline: {done}"
                _log.warning("%s", done)
        except ChainError as error:
            _log.info("fallback: %s", error)
        await asyncio.sleep(pause)


async def _now(chain: Chain) -> int:
    """The next block's time: ours, unless the chain is ahead; it is behind where blocks are made on demand only."""
    return max(int(time.time()), await chain.timestamp())


def _ordered(said: Said, state: FallbackState) -> list[int]:
    return [said.rewards.get(member, 0) for member in state.stakes]


def _at(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
