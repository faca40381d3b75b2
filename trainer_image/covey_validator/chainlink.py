"""The way to the chain: connected when first needed, and a look now and then at what has changed there."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from covey_api.status import Reason
from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.types import TaskStatus
from covey_chain.wallet import Journal, Wallet

from covey_validator.errors import TaskFailed
from covey_validator.node import Node
from covey_validator.settings import ChainSettings
from covey_validator.task import Task

WATCH_SECONDS = 20.0
ALONE_LOOKS = 3
_log = logging.getLogger(__name__)


class ChainLink:
    """Chain and session wallet of this validator."""

    def __init__(self, settings: ChainSettings, session_key: bytes, journal: Path) -> None:
        self._settings = settings
        self._session_key = session_key
        self._journal = journal
        self._lock = asyncio.Lock()
        self._connected: tuple[Chain, Wallet] | None = None

    async def connect(self) -> tuple[Chain, Wallet]:
        """Chain and wallet; connects if that has not succeeded yet.

        Raises:
            ChainError: the node does not answer, or is not the right one.
        """
        async with self._lock:
            if self._connected is None:
                s = self._settings
                chain = await Chain.connect(s.rpc_url, s.chain_id, s.contract, fallbacks=s.fallback_rpc_urls)
                key = "0x" + self._session_key.hex()
                wallet = Wallet(chain, key, s.confirmations, Journal(self._journal))
                self._connected = chain, wallet
            return self._connected

    async def close(self) -> None:
        """Close the connections."""
        if self._connected is not None:
            await self._connected[0].close()


async def watch(link: ChainLink, node: Node) -> None:
    """Follow keys and end points of the participants, and notice a task that ended without us; runs for ever.

    Raises:
        TaskFailed: the task was cancelled, or finished and nobody is there to get the model from.
    """
    alone = 0
    while True:
        try:
            chain, _ = await link.connect()
            node.progress.token_decimals = await chain.token_decimals(node.task.token)
            left_behind = await _look(chain, node) and not node.exchange.connected
            alone = alone + 1 if left_behind else 0
        except ChainError as error:
            _log.info("participants not refreshed: %s", error)
        if alone >= ALONE_LOOKS:
            raise TaskFailed(
                Reason.PEERS_UNREACHABLE,
                "the task is finished on chain, but this member lacks its last rounds and no other member is there to "
                "give them; ask one for its model.safetensors and report.json (`covey claim` pays by the report)",
                user_error=True,
            )
        await asyncio.sleep(WATCH_SECONDS)


async def _look(chain: Chain, node: Node) -> bool:
    """Bring participants up to date; True if the task is finished on chain and not here."""
    published = await chain.task(node.task.task_id)
    if published is None:
        return False
    if published.status == TaskStatus.FINISHED:
        return node.progress.round < node.progress.rounds
    if published.status == TaskStatus.CANCELLED:
        raise TaskFailed(Reason.CANCELLED_BY_PLANNER, "the task was cancelled or has expired on chain", user_error=True)
    fresh = Task.of(published, await chain.participants(node.task.task_id), chain.domain)
    if fresh.sites != node.task.sites:
        _log.info("participants have changed keys or end points")
        node.store.put("task", fresh)
        node.task = fresh
        node.exchange.set_peers(site.peer for site in fresh.sites)
    return False
