"""Which node is asked, by the clock: the first that is of use, never one that knows less than has been seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from covey_chain.errors import RpcUnavailable, WrongChain
from covey_chain.failover import Failover, Patience
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCResponse

CHAIN = 7
CALL = RPCEndpoint("eth_call")
HEAD = RPCEndpoint("eth_blockNumber")


@dataclass
class Node:
    """A node's provider; the real thing is asked in tests/contract/test_two_ways.py."""

    head: int = 10
    chain_id: int = CHAIN
    broken: Exception | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def make_request(self, method: str, _params: Any) -> Any:
        self.asked.append(method)
        if self.broken is not None:
            raise self.broken
        found: dict[str, Any] = {"eth_chainId": hex(self.chain_id), "eth_blockNumber": hex(self.head)}
        return self.answers.get(method, {"result": found.get(method, "0x")})


class Lab:
    def __init__(self, *nodes: Node) -> None:
        self.now = 0.0
        self.nodes = {f"http://n{i}": node for i, node in enumerate(nodes)}
        patience = Patience(rest=60, probe=5, history=120)
        self.provider = Failover(list(self.nodes), CHAIN, self._provider, patience, lambda: self.now)

    def _provider(self, url: str) -> AsyncHTTPProvider:
        return self.nodes[url]  # type: ignore[return-value]

    async def ask(self, method: RPCEndpoint = CALL, params: Sequence[Any] = ()) -> RPCResponse:
        return await self.provider.make_request(method, params)


DOWN = aiohttp.ClientConnectionError("refused")


async def test_the_first_is_asked_as_long_as_it_answers() -> None:
    first, second = Node(), Node()
    lab = Lab(first, second)
    for _ in range(3):
        await lab.ask()
    assert first.asked == ["eth_chainId", "eth_blockNumber", *["eth_call"] * 3]
    assert second.asked == []


async def test_the_next_takes_over_and_the_first_comes_back_after_its_rest() -> None:
    first, second = Node(), Node()
    lab = Lab(first, second)
    await lab.ask()
    first.broken, first.asked = DOWN, []
    await lab.ask()
    await lab.ask()
    assert (first.asked, second.asked.count("eth_call")) == (["eth_call"], 2)
    first.broken, lab.now = None, 59.0
    await lab.ask()
    assert second.asked.count("eth_call") == 3
    lab.now = 61.0
    await lab.ask()
    assert first.asked == ["eth_call", "eth_chainId", "eth_blockNumber", "eth_call"]
    assert second.asked.count("eth_call") == 3


@pytest.mark.parametrize(
    "answer",
    [
        {"welcome": 1},
        [1],
        None,
        {"error": {"code": -32005, "message": "limit exceeded"}},
        {"error": {"code": 429, "message": "slow down"}},
    ],
)
async def test_nonsense_and_overload_are_no_answer(answer: Any) -> None:
    first, second = Node(), Node()
    lab = Lab(first, second)
    await lab.ask()
    first.answers["eth_call"] = answer
    assert await lab.ask() == {"result": "0x"}
    assert second.asked[-1] == "eth_call"


async def test_a_refusal_is_an_answer() -> None:
    first, second = Node(), Node()
    lab = Lab(first, second)
    reverted = {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
    first.answers["eth_call"] = reverted
    assert await lab.ask() == reverted
    assert second.asked == []


async def test_a_node_of_another_chain_is_passed_over() -> None:
    first, second = Node(chain_id=1), Node()
    lab = Lab(first, second)
    await lab.ask()
    assert ("eth_call" in first.asked, "eth_call" in second.asked) == (False, True)
    second.chain_id = 2
    with pytest.raises(WrongChain, match="n0 is a node of chain 1, not 7"):
        await Lab(first, second).ask()


async def test_a_node_that_knows_less_than_was_seen_is_not_asked() -> None:
    first, second, third = Node(head=10), Node(head=9), Node(head=10)
    lab = Lab(first, second, third)
    await lab.ask(HEAD)
    first.broken = DOWN
    await lab.ask()
    assert ("eth_call" in second.asked, "eth_call" in third.asked) == (False, True)


@pytest.mark.parametrize("newest", [HEAD, RPCEndpoint("eth_getBlockByNumber")])
async def test_a_head_that_goes_back_is_not_believed(newest: RPCEndpoint) -> None:
    first, second = Node(head=10), Node(head=11)
    lab = Lab(first, second)
    assert (await lab.ask(HEAD))["result"] == hex(10)
    first.head = 8
    first.answers["eth_getBlockByNumber"] = {"result": {"number": hex(8)}}
    second.answers["eth_getBlockByNumber"] = {"result": {"number": hex(11)}}
    await lab.ask(newest, ["latest", False])
    assert second.asked[-1] == newest
    await lab.ask()
    assert "eth_call" not in first.asked


async def test_a_receipt_counts_as_a_block_that_was_seen() -> None:
    first, second = Node(head=10), Node(head=11)
    lab = Lab(first, second)
    first.answers["eth_getTransactionReceipt"] = {"result": {"blockNumber": hex(12)}}
    await lab.ask(RPCEndpoint("eth_getTransactionReceipt"), ["0x"])
    first.broken = DOWN
    with pytest.raises(RpcUnavailable, match="newest block is 11, and 12 has been seen"):
        await lab.ask()
    second.head = 12
    await lab.ask()


async def test_when_all_have_gone_back_for_long_that_is_the_chain_now() -> None:
    first, second = Node(head=1000), Node(head=1000)
    lab = Lab(first, second)
    await lab.ask(HEAD)
    first.head = second.head = 3
    for lab.now in (0.0, 60.0, 119.0):
        with pytest.raises(RpcUnavailable, match="fallen behind"):
            await lab.ask(HEAD)
    lab.now = 121.0
    assert (await lab.ask(HEAD))["result"] == hex(3)
    assert (await lab.ask(HEAD))["result"] == hex(3)


async def test_all_down_is_told_with_the_reason_of_each_and_mends_at_once() -> None:
    first, second = Node(broken=DOWN), Node(broken=TimeoutError())
    lab = Lab(first, second)
    with pytest.raises(RpcUnavailable, match=r"n0: ClientConnectionError: refused; http://n1: TimeoutError"):
        await lab.ask()
    second.broken = None
    await lab.ask()  # at once, although both rest
    assert second.asked[-1] == "eth_call"
