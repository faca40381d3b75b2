"""Three members with money on a real node, and the steps that most tests begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from covey_chain import penalties, signing
from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.merkle import RewardTree
from covey_chain.types import Deployment, Receipt, Role, RoundResult
from covey_chain.wallet import Wallet
from eth_utils.crypto import keccak

TOKEN = 10**18
MEMBER = Role.PLANNER | Role.TRAINER | Role.VALIDATOR
WORKER = Role.TRAINER | Role.VALIDATOR
SPEC = b'{"name":"wdbc"}'
# For tests that neither move the clock nor hold up blocks, which only anvil can.
BOTH = pytest.mark.parametrize("node", ["anvil", "geth"], indirect=True)
CONSORTIUM = bytes(keccak(text="oncology-eu"))


@dataclass
class Lab:
    node: Node
    deployment: Deployment
    chain: Chain
    wallets: list[Wallet]

    @property
    def planner(self) -> Wallet:
        return self.wallets[0]

    async def rpc(self, method: str, *arguments: Any) -> Any:
        answer = await self.chain.web3.provider.make_request(method, list(arguments))
        assert "error" not in answer, answer
        return answer["result"]

    async def enrol(self, wallets: Iterable[Wallet] | None = None) -> bytes:
        await self.planner.create_consortium("oncology-eu", self.deployment.token, 10 * TOKEN)
        for i, wallet in enumerate(wallets or self.wallets):
            await self.join(wallet, i)
            await wallet.stake_up_to(CONSORTIUM, self.deployment.token, 1000 * TOKEN)
        return CONSORTIUM

    async def join(self, wallet: Wallet, i: int = 0) -> Receipt:
        return await wallet.join(
            CONSORTIUM, MEMBER, bytes([i + 1]) * 32, f"10.0.0.{i}", bytes(32), b"certificate" + bytes([i])
        )

    async def publish(
        self, bounty: int = 3000 * TOKEN, members: int = 3, min_members: int | None = None, **changes: Any
    ) -> bytes:
        now = await self.chain.timestamp()
        terms: dict[str, Any] = {
            "consortium": CONSORTIUM, "spec": SPEC, "spec_hash": keccak(SPEC), "token": self.deployment.token,
            "bounty": bounty, "min_members": min_members or members, "max_members": members, "rounds": 4,
            "accept_by": now + 3600, "deadline": now + 7200, "answer_window": 60, "salt": keccak(text="uid-1"),
        }  # fmt: skip
        task_id, _ = await self.planner.publish(**{**terms, **changes})
        return task_id

    async def started(self, bounty: int = 3000 * TOKEN, **changes: Any) -> tuple[bytes, list[bytes]]:
        await self.enrol()
        task_id = await self.publish(bounty, **changes)
        sessions = [signing.new_key() for _ in self.wallets]
        for wallet, session in zip(self.wallets, sessions, strict=True):
            await wallet.accept(task_id, WORKER, signing.address_of(session), "10.0.0.1:7443")
        await self.planner.start(task_id)
        return task_id, sessions

    def signed(self, result: RoundResult, sessions: list[bytes]) -> dict[str, bytes]:
        return {signing.address_of(key): signing.sign(self.chain.domain, result, key) for key in sessions}

    async def holdings(self) -> int:
        holders = [w.address for w in self.wallets]
        holders += [self.deployment.registry, self.deployment.market, self.deployment.settlement]
        return sum([await self.chain.token_balance(self.deployment.token, holder) for holder in holders])


def result_of(
    task_id: bytes, rewards: dict[str, int], round_: int = 4, last: bool = True, epoch: int = 0, ledger: bytes = b""
) -> RoundResult:
    root = RewardTree(rewards, task_id).root
    digests = (b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, root, penalties.digest(ledger))
    return RoundResult(task_id, round_, epoch, *digests, sum(rewards.values()), True, last)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that only asking can tell."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to pass")
