"""The clerk reads the chain when it is asked, waits for blocks that it has not seen, and goes on without its node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from covey_chain.client import Chain
from covey_chain.errors import RpcUnavailable
from covey_chain.events import Event, EventKind
from covey_chain.wallet import Wallet
from covey_validator import clerk
from covey_validator.clerk import Clerk
from covey_validator.incentives.docket import Docket
from covey_validator.task import Task
from validator_world import DOMAIN, OWNERS, participants, published, terms

A, B, C = OWNERS
APPEAL = Event(EventKind.APPEAL_FILED, 7, "0x" + "0b" * 32, 0, "0x", {"member": A})


@dataclass
class Node:
    """What the clerk asks of a chain; the real one is in the tests of validators with an auditor."""

    height: int = 5
    down: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def task(self, _task_id: bytes) -> Any:
        return published()

    async def block_number(self) -> int:
        if self.down:
            raise RpcUnavailable("http://node", "down")
        return self.height

    async def events(self, first: int, last: int, _task_id: bytes) -> list[Event]:
        self.asked.append((first, last))
        return [APPEAL] if first <= APPEAL.block <= last else []

    async def connect(self) -> tuple[Chain, Wallet]:
        return cast(Chain, self), cast(Wallet, None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clerk, "LOOK_SECONDS", 0.01)


def audited() -> Task:
    said = terms(incentives={"auditor": C, "appealWindow": "1h"})
    return Task.of(published(said, auditor=C, appeal_window=3600), participants(), DOMAIN)


async def test_it_reads_on_from_where_it_was_up_to_the_last_final_block():
    node = Node(height=5)
    reader = Clerk(node.connect, audited(), confirmations=2)
    assert await reader.height() == 4
    node.height = 9
    assert await reader.height() == 8
    assert node.asked == [(1, 4), (5, 8)]
    assert (await reader.until(8)).filed.keys() == {A}
    assert (await reader.until(6)).filed == {}


async def test_it_waits_for_a_block_that_its_node_has_not_seen():
    node = Node(height=5)
    waiting = asyncio.create_task(Clerk(node.connect, audited(), confirmations=1).until(9))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    node.height = 9
    assert (await waiting).height == 9


async def test_without_its_node_it_says_what_it_knew():
    node = Node(height=5)
    reader = Clerk(node.connect, audited(), confirmations=1)
    await reader.height()
    node.down, node.height = True, 9
    assert await reader.height() == 5


async def test_without_evidence_nobody_asks_the_chain():
    node = Node()
    reader = Clerk(node.connect, Task.of(published(), participants(), DOMAIN), confirmations=1)
    assert await reader.height() == 0
    assert await reader.until(3) == Docket(3)
    assert node.asked == []
