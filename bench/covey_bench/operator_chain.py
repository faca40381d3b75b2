"""The chain of the benchmark: contracts, the operator's wallet, and a member that accepts whatever is published."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field

from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.events import Event, EventKind
from covey_chain.types import Deployment, Role
from covey_chain.wallet import Wallet
from covey_operator.keys import new_tls, read_tls, utc_now
from eth_account import Account

CONSORTIUM = "bench"
COIN = TOKEN = 10**18
STAKE = 1000 * TOKEN
POLL_SECONDS = 0.1


def new_key() -> str:
    """A fresh private key, 0x-hex."""
    return "0x" + bytes(Account.create().key).hex()


async def set_up(node: Node, owner: str, partner: str) -> Deployment:
    """Contracts and one consortium; both accounts have coins and tokens for thousands of tasks."""
    deployed = await deploy_all(node.url, node.keys[0])
    chain = await Chain.connect(node.url, node.chain_id, deployed.settlement)
    rich = Wallet(chain, node.keys[0])
    await rich.create_consortium(CONSORTIUM, deployed.token, 100 * TOKEN)
    for key in (owner, partner):
        address = str(Account.from_key(key).address)
        await rich.fund(address, 1_000 * COIN)
        await mint(node.url, node.keys[0], deployed.token, address, 100_000 * TOKEN)
    await chain.close()
    return deployed


@dataclass
class Partner:
    """Another member, without a cluster; it looks at the chain ten times a second.

    Attributes:
        published, accepted, started: task id -> when it saw that on chain, in seconds since the epoch.
    """

    chain: Chain
    wallet: Wallet
    session: str
    published: dict[bytes, float] = field(default_factory=dict)
    accepted: dict[bytes, float] = field(default_factory=dict)
    started: dict[bytes, float] = field(default_factory=dict)

    @classmethod
    async def join(cls, node: Node, deployed: Deployment, key: str) -> Partner:
        """Register and stake."""
        chain = await Chain.connect(node.url, node.chain_id, deployed.settlement)
        wallet = Wallet(chain, key)
        consortium = await chain.consortium(CONSORTIUM)
        assert consortium is not None
        tls = read_tls({"data": new_tls("partner", utc_now())})
        description = hashlib.sha256(b"").digest()
        roles = Role.TRAINER | Role.VALIDATOR
        await wallet.join(consortium.id, roles, tls.key_hash, "partner.example:7443", description, tls.certificate)
        await wallet.stake_up_to(consortium.id, deployed.token, STAKE)
        return cls(chain, wallet, str(Account.from_key(new_key()).address))

    async def run(self) -> None:
        """Follow the chain for ever."""
        seen = await self.chain.block_number()
        async with asyncio.TaskGroup() as group:
            while True:
                head = await self.chain.block_number()
                if head > seen:
                    for event in await self.chain.events(seen + 1, head):
                        self._take(group, event)
                    seen = head
                await asyncio.sleep(POLL_SECONDS)

    def _take(self, group: asyncio.TaskGroup, event: Event) -> None:
        task_id = event.task_id
        if task_id is None:
            return
        if event.kind is EventKind.TASK_PUBLISHED:
            self.published[task_id] = time.time()
            group.create_task(self._accept(task_id))
        elif event.kind is EventKind.TASK_STARTED:
            self.started[task_id] = time.time()

    async def _accept(self, task_id: bytes) -> None:
        await self.wallet.accept(task_id, Role.TRAINER | Role.VALIDATOR, self.session, "partner.example:7443")
        self.accepted[task_id] = time.time()
