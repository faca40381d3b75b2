"""Several nodes of one chain as one provider of web3: each request goes to the first node that is of use.

A node that does not answer, answers no JSON-RPC, is of another chain or has fallen behind rests for a while; then the
first of the list is tried before the others again. Before a node is used, and after each rest, it is asked for its
chain and its head: one that knows fewer blocks than have been seen is not used, so that what is read later is never
older than what was read before, whichever node answers. Heads that go back on all nodes are a new history, or a chain
that began anew; they are believed after `Patience.history`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from web3 import AsyncHTTPProvider
from web3.exceptions import BadResponseFormat
from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from covey_chain.errors import ChainError, RpcUnavailable, WrongChain, shown

log = logging.getLogger(__name__)

NO_ANSWER = (
    aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError, UnicodeDecodeError, BadResponseFormat,
)  # fmt: skip
# What nodes and providers say when they have too much to do, not when a request is wrong (EIP-1474).
_OVERLOADED = frozenset({429, -32005})


@dataclass(frozen=True)
class Patience:
    """In seconds: how long a node rests, how long a look at one may take, when heads that went back are believed."""

    rest: float = 60.0
    probe: float = 5.0
    history: float = 120.0


class BehindError(Exception):
    """A node knows fewer blocks than have been seen."""

    def __init__(self, url: str, head: int, seen: int) -> None:
        super().__init__(f"{shown(url)} has fallen behind: its newest block is {head}, and {seen} has been seen")


@dataclass
class _Node:
    provider: AsyncHTTPProvider
    url: str
    rests_until: float = 0.0
    trusted: bool = False


class Failover(AsyncJSONBaseProvider):
    """See the module.

    Args:
        urls: JSON-RPC end points, the preferred one first; at least one.
        chain_id: EIP-155 chain id that each must have.
        provider: makes the provider of one URL.
        patience: see `Patience`.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        urls: Sequence[str],
        chain_id: int,
        provider: Callable[[str], AsyncHTTPProvider],
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._nodes = [_Node(provider(url), url) for url in urls]
        self._chain_id, self._patience, self._clock = chain_id, patience, clock
        self._probing = asyncio.Lock()
        self._seen = 0
        self._behind_since: float | None = None

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the first node that is of use.

        Raises:
            RpcUnavailable: none is; says what is wrong with each.
            WrongChain: all that answer are of other chains.
        """
        problems: list[tuple[_Node, Exception]] = []
        for node in self._in_order():
            try:
                await self._trust(node)
                answer = _checked(await node.provider.make_request(method, params))
                self._look_at_head(node, method, params, answer)
                return answer
            except (*NO_ANSWER, BehindError, WrongChain) as error:
                problems.append((node, error))
                self._rest(node, error)
        raise self._nobody(problems)

    async def disconnect(self) -> None:
        """Close all connections."""
        for node in self._nodes:
            await node.provider.disconnect()

    def _in_order(self) -> list[_Node]:
        """Those that rest come last: when all others fail there is nothing to lose."""
        now = self._clock()
        return sorted(self._nodes, key=lambda node: node.rests_until > now)

    def _rest(self, node: _Node, error: Exception) -> None:
        if node.rests_until <= self._clock():
            log.warning("%s rests for %.0f s: %s", shown(node.url), self._patience.rest, _text(error))
        node.rests_until, node.trusted = self._clock() + self._patience.rest, False

    async def _trust(self, node: _Node) -> None:
        """Before a node is used: is it of the chain, and as far as the others were?"""
        if node.trusted:
            return
        async with self._probing, asyncio.timeout(self._patience.probe):
            if node.trusted:
                return
            chain_id, head = await self._number(node, "eth_chainId"), await self._number(node, "eth_blockNumber")
            if chain_id != self._chain_id:
                raise WrongChain(node.url, self._chain_id, chain_id)
            self._take_head(node, head)
            node.trusted, node.rests_until = True, 0.0

    async def _number(self, node: _Node, method: str) -> int:
        answer = _checked(await node.provider.make_request(RPCEndpoint(method), []))
        return _quantity(answer.get("result"))

    def _look_at_head(self, node: _Node, method: str, params: Any, answer: RPCResponse) -> None:
        result: Any = answer.get("result")
        if method == "eth_blockNumber":
            self._take_head(node, _quantity(result))
        elif method == "eth_getBlockByNumber" and params and params[0] == "latest" and isinstance(result, dict):
            self._take_head(node, _quantity(result.get("number")))
        elif method == "eth_getTransactionReceipt" and isinstance(result, dict):
            # A block with a transaction of ours: from now on a node without it must not be asked about it.
            self._seen = max(self._seen, _quantity(result.get("blockNumber")))

    def _take_head(self, node: _Node, head: int) -> None:
        if head >= self._seen:
            self._seen, self._behind_since = head, None
            return
        now = self._clock()
        self._behind_since = now if self._behind_since is None else self._behind_since
        if now - self._behind_since < self._patience.history:
            raise BehindError(node.url, head, self._seen)
        log.warning("all nodes have gone back from block %d to %d: this is the chain now", self._seen, head)
        self._seen, self._behind_since = head, None

    def _nobody(self, problems: Sequence[tuple[_Node, Exception]]) -> ChainError:
        wrong = [error for _, error in problems if isinstance(error, WrongChain)]
        if len(wrong) == len(problems):
            return wrong[0]
        told = "; ".join(
            str(error) if isinstance(error, BehindError | WrongChain) else f"{shown(node.url)}: {_text(error)}"
            for node, error in problems
        )
        return RpcUnavailable(self._nodes[0].url, f"nor from its fallbacks: {told}")


def _checked(answer: Any) -> RPCResponse:
    """The answer, if it is one that says something about the request.

    Raises:
        BadResponseFormat: it is not JSON-RPC, or says that the node has too much to do.
    """
    if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
        raise BadResponseFormat("JSON, but not JSON-RPC")
    problem = answer.get("error")
    if isinstance(problem, dict) and problem.get("code") in _OVERLOADED:
        raise BadResponseFormat(f"too much to do: {problem.get('message')}")
    return answer  # type: ignore[return-value]


def _quantity(value: Any) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise BadResponseFormat(f"{str(value)[:40]!r} is no number") from None


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(": ")
