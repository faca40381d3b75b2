"""Follows the roll calls of a task on chain, answers them, and calls the roll when nothing goes on (ADR 0008).

The chain is the only way: an answer goes on chain by itself, and all read there who is active and what was shown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.types import PendingCall, RollCall, RollCallState
from covey_chain.wallet import Wallet
from eth_utils import keccak

from covey_validator import evidence
from covey_validator.loop import RoundLoop
from covey_validator.node import Node

LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 1.0, 5.0
CLOSE_TURN_SECONDS = 5.0  # the next participant waits this much longer to close a call than the one before
REST_ROUNDS_MAX = 32
_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[tuple[Chain, Wallet]]]


def must_answer(
    state: RollCallState, site: str, waited_seconds: float, patience_seconds: float, rounds_since: int, silent: bool
) -> bool:
    """Whether this site should answer the next roll call, or begin it.

    Args:
        state: of the chain.
        site: our own address.
        waited_seconds: how long our round has waited for nothing but others' votes.
        patience_seconds: how long it may.
        rounds_since: rounds since the epoch began.
        silent: we cannot show the locks that we may have had; who voted with us can.
    """
    call = state.call
    if call is not None and site in call.answers:
        return False
    if silent:
        return call is not None and call.answers.keys() >= state.active.keys() - {site}
    if call is not None and call.closes_at is not None:
        return True  # who does not answer an open call is left out
    if site not in state.active or waited_seconds > patience_seconds:
        return True
    # Somebody waits to come back, or has called alone: let it in, the later the more often the roll was called.
    rest = min(2 ** (state.epoch - 1), REST_ROUNDS_MAX) if state.epoch else 0
    return call is not None and rounds_since >= rest


class Attendance:
    """One site's part in the roll calls."""

    def __init__(self, connect: Connect, node: Node, loop: RoundLoop, confirmations: int) -> None:
        """`connect` gives chain and wallet; it may fail with a `ChainError`, and is asked again."""
        self._connect = connect
        self._node = node
        self._loop = loop
        self._confirmations = confirmations

    async def run(self) -> None:
        """Look at the chain now and then; runs for ever."""
        window = self._node.task.answer_window_seconds
        self._show()
        while True:
            try:
                chain, wallet = await self._connect()
                await self._look(chain, wallet)
            except ChainError as error:
                _log.info("roll calls not followed: %s", error)
            await asyncio.sleep(min(max(window / 10, LOOK_SECONDS_MIN), LOOK_SECONDS_MAX))

    async def _look(self, chain: Chain, wallet: Wallet) -> None:
        node = self._node
        state = await chain.roll_calls(node.task.task_id, self._confirmations)
        for number in range(node.roll.epoch.number + 1, state.epoch + 1):
            ended = await chain.roll_call(node.task.task_id, number)
            began = node.roll.enter(ended, node.exchange.roster, self._loop.round)
            _log.warning("epoch %d begins with %s", number, ", ".join(sorted(ended.active)))
            self._loop.enter(began)
            self._show()
        if self._should_answer(state) and not await self._is_removed(chain):
            await self._answer(wallet, state.epoch + 1)
        elif state.call is not None and state.call.closes_at is not None:
            await self._close(wallet, state.call, state.call.closes_at)
        while node.accusations:
            first, second = node.accusations[0]
            receipt = await wallet.prove_fault(first, second, node.site)
            node.accusations.pop(0)
            if receipt.tx_hash is not None:
                node.progress.transactions.append(("fault", receipt.tx_hash))

    def _should_answer(self, state: RollCallState) -> bool:
        node, since = self._node, self._node.roll.began[-1].in_round if self._node.roll.began else 0
        answered = state.call.answers if state.call else {}
        if node.roll.left == state.epoch + 1:  # signed before a crash or an outage
            return node.site not in answered and node.roll.answer is not None
        patience = node.task.answer_window_seconds
        number = self._loop.round
        silent = node.roll.is_silent(number)
        return must_answer(state, node.site, self._loop.waited_seconds, patience, number - since, silent)

    async def _is_removed(self, chain: Chain) -> bool:
        """Whether the contract takes no answer from us any more.

        Until a result with our removal is settled it does, and the others may need it: till then we count in the
        majority that a call asks for.
        """
        if self._node.site in self._node.history.book.active:
            return False
        penalty = await chain.penalty_of(self._node.task.task_id, self._node.site)
        return penalty is not None and penalty.removed

    async def _answer(self, wallet: Wallet, epoch: int) -> None:
        node = self._node
        if node.roll.left < epoch:
            shown = evidence.encode(self._loop.evidence())
            call = RollCall(node.task.task_id, epoch, node.site, keccak(shown))
            message = node.exchange.roster.verify(node.exchange.roster.seal(call, node.session_key, shown))
            node.roll.leave(call, message.envelope.signature, shown)
            node.watermark.answers_roll_call(epoch)
            self._loop.leave(epoch)
            _log.warning("answering the roll call of epoch %d", epoch)
        assert node.roll.answer is not None
        receipt = await wallet.answer_roll_call(*node.roll.answer)
        if receipt.tx_hash is not None:
            node.progress.transactions.append(("answer", receipt.tx_hash))

    async def _close(self, wallet: Wallet, call: PendingCall, closes_at: int) -> None:
        order = sorted(call.answers, key=str.lower)
        turn = order.index(self._node.site) if self._node.site in order else len(order)
        if time.time() > closes_at + CLOSE_TURN_SECONDS * turn:
            receipt = await wallet.close_roll_call(self._node.task.task_id, call.epoch)
            if receipt.tx_hash is not None:
                self._node.progress.transactions.append(("close", receipt.tx_hash))

    def _show(self) -> None:
        roll = self._node.roll
        away = self._node.task.stakes.keys() - roll.epoch.weights.keys()
        known = self._node.progress.suspended
        since = roll.began[-1].in_round if roll.began else 0
        self._node.progress.suspended = {site: known.get(site, since) for site in sorted(away)}
