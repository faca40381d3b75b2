"""A started task and its members."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from covey_chain.anvil import Node
from covey_chain.client import Chain
from validator_member import Site


@dataclass
class Consortium:
    """A task that has started."""

    node: Node
    chain: Chain
    task_id: bytes
    sites: list[Site]

    @property
    def options(self) -> list[str]:
        """Those of the commands that work on its contracts."""
        return contract_options(self.node, self.chain.domain.contract, self.task_id)

    async def start(self) -> None:
        for site in self.sites:
            await site.start()

    async def all_succeed(self, seconds: float = 150) -> None:
        for site in self.sites:
            assert await site.exit_code(seconds) == 0, f"{site.name}:\n{site.log[-3000:]}"


def contract_options(node: Node, contract: str, task_id: bytes) -> list[str]:
    """Options of the commands that work on a task's contracts."""
    where = ["--rpc-url", node.url, "--chain-id", str(node.chain_id), "--contract", contract]
    return [*where, "--task", "0x" + task_id.hex()]


Convene = Callable[..., Awaitable[Consortium]]
