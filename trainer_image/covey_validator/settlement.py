"""Results go on chain every few rounds and at the end; training does not wait for it.

The certified rounds on disk are the queue: what is due and not yet on chain is posted. One participant is first to post
a result, the others only step in when it does not appear, so that gas is paid once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from covey_api.base import ApiModel
from covey_api.status import Reason
from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.types import SettlementState
from covey_chain.wallet import Wallet

from covey_validator.errors import TaskFailed
from covey_validator.node import Node
from covey_validator.records import CertifiedRound

TURN_SECONDS = 15.0  # the next participant waits this much longer than the one before
POLL_SECONDS = 1.0
RETRY_SECONDS_MAX = 30.0
_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[tuple[Chain, Wallet]]]


class Transactions(ApiModel):
    """What this validator sent."""

    sent: list[tuple[str, str]] = []


def due(newest: int, last: bool, settle_every: int) -> int:
    """The newest round that must be on chain: the last multiple of `settle_every`, or the last of all."""
    return newest if last else newest - newest % settle_every


def turn(round_number: int, settle_every: int, sites: list[str], site: str) -> int:
    """0 for the participant that posts this result first, 1 for the next, and so on round the sorted addresses."""
    order = sorted(sites, key=str.lower)
    first = (round_number // settle_every) % len(order)
    return (order.index(site) - first) % len(order)


class Settler:
    """Brings due results on chain, whatever the node does meanwhile."""

    def __init__(self, connect: Connect, node: Node) -> None:
        """`connect` gives chain and wallet; it may fail with a `ChainError`, and is asked again."""
        self._connect = connect
        self._node = node
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._newest: CertifiedRound | None = None
        data = node.store.get("transactions")
        node.progress.transactions = Transactions.model_validate_json(data).sent if data else []

    def certified(self, record: CertifiedRound) -> None:
        """A round is certified."""
        self._newest = record
        self._wake.set()

    async def until_settled(self) -> None:
        """Wait until the chain shows the last result."""
        await self._settled.wait()

    async def run(self) -> None:
        """Post what is due until the last result is on chain.

        Raises:
            TaskFailed: the chain says something else than we.
        """
        pause = 1.0
        while not self._settled.is_set():
            try:
                chain, wallet = await self._connect()
                while not await self._pass(chain, wallet):
                    pause = 1.0
                self._settled.set()
            except ChainError as error:
                # Retries of all kinds: an outage ends, gas is topped up, another participant is faster.
                _log.warning("settlement: %s; trying again in %.0f s", error, pause)
                self._node.progress.message = f"settlement waits: {error}"
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS_MAX)

    async def _pass(self, chain: Chain, wallet: Wallet) -> bool:
        """Bring the newest due result on chain; True when it was the last one."""
        node = self._node
        target = self._due()
        record = node.store.certified(target) if target else None
        state = await chain.settlement(node.task.task_id)
        self._check(state)
        if record is None or state.round >= record.round:
            if record is not None and record.last:
                return True
            await self._wake.wait()
            self._wake.clear()
            return False
        if await self._is_our_turn(chain, record):
            await self._post(wallet, record)
        return False

    def _due(self) -> int:
        every, newest = self._node.task.terms.rounds.settle_every, self._newest
        return due(newest.round, newest.last, every) if newest else 0

    async def _is_our_turn(self, chain: Chain, record: CertifiedRound) -> bool:
        """Wait for those whose turn is before ours; False as soon as one has posted, or a newer result is due."""
        node = self._node
        place = turn(record.round, node.task.terms.rounds.settle_every, list(node.task.stakes), node.site)
        wait = TURN_SECONDS * place
        end = asyncio.get_running_loop().time() + wait
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(POLL_SECONDS)
            if self._due() != record.round or (await chain.settlement(record.task_id)).round >= record.round:
                return False
        return True

    async def _post(self, wallet: Wallet, record: CertifiedRound) -> None:
        node = self._node
        receipt = await wallet.post_result(record.result, record.ledger, node.signers.by_signer(record))
        _log.info("result of round %d is on chain (%s)", record.round, receipt.tx_hash or "by another participant")
        if receipt.tx_hash is not None:
            node.progress.transactions.append(("result", receipt.tx_hash))
            node.store.put("transactions", Transactions(sent=node.progress.transactions))

    def _check(self, state: SettlementState) -> None:
        ours = self._node.store.certified(state.round) if state.round else None
        if ours is None or (ours.model_digest, ours.reward_root) == (state.model_digest, state.reward_root):
            return
        raise TaskFailed(
            Reason.TRANSACTION_REVERTED,
            f"the chain has another result of round {state.round} than the one that more than 2/3 of the stake signed "
            f"here: model 0x{state.model_digest.hex()}, not 0x{ours.model_digest.hex()}; keep the state directory and "
            "compare with the other members",
            user_error=True,
        )
