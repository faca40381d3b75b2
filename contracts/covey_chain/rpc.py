"""JSON-RPC calls with typed errors: the one place where web3's exceptions become this package's."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from eth_abi import decode
from eth_abi.exceptions import DecodingError
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import (
    BadFunctionCallOutput,
    ContractLogicError,
    ProviderConnectionError,
    TimeExhausted,
    TooManyRequests,
    TransactionNotFound,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware

from covey_chain import abi
from covey_chain.errors import ChainError, NoContract, Reverted, RpcUnavailable
from covey_chain.failover import NO_ANSWER, Failover
from covey_chain.provider import KeptHTTPProvider

T = TypeVar("T")

_NO_ANSWER = (*NO_ANSWER, ProviderConnectionError, TimeExhausted, TooManyRequests)
_PANIC, _ERROR_STRING = bytes.fromhex("4e487b71"), bytes.fromhex("08c379a0")


def connect(
    url: str, timeout_seconds: float = 10.0, fallbacks: Sequence[str] = (), chain_id: int = 0
) -> AsyncWeb3[AsyncHTTPProvider | Failover]:
    """A client of one node, or of several of the chain `chain_id`, of which the first is preferred (see `failover`).

    A broken connection is made anew at once; longer waits are the caller's.
    """

    def one(url: str) -> AsyncHTTPProvider:
        return KeptHTTPProvider(url, timeout_seconds)

    provider = Failover((url, *fallbacks), chain_id, one) if fallbacks else one(url)
    web3: AsyncWeb3[AsyncHTTPProvider | Failover] = AsyncWeb3(provider)
    # Proof-of-authority chains (Besu QBFT) put their signatures into the header's extra data (EIP-225).
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    # It asks for the chain's id before every call; `Connection.connect` has asked, and what is signed carries it.
    web3.middleware_onion.remove("validation")
    # Addresses are given as such, and fees are reckoned by the queue: neither names nor prices have to be looked up.
    web3.middleware_onion.remove("ens_name_to_address")
    web3.middleware_onion.remove("gas_price_strategy")
    return web3


async def ask(url: str, call: str, request: Awaitable[T]) -> T:
    """Await a web3 request that `call` names for people.

    Raises:
        RpcUnavailable: the node does not answer, not with JSON-RPC, or with an error of its own (`refused`).
        Reverted: a contract refuses.
        NoContract: what is at the address does not know the function.
        TransactionNotFound: as web3 says it; the one answer that is no error.
    """
    try:
        return await request
    except ContractLogicError as error:
        raise _revert(call, error) from error
    except BadFunctionCallOutput as error:
        raise NoContract("the address", 0, f"contract that answers {call}") from error
    except _NO_ANSWER as error:
        text = " ".join(str(error).split())[:200]
        raise RpcUnavailable(url, f"{type(error).__name__}: {text}" if text else type(error).__name__) from error
    except TransactionNotFound:
        raise
    except Web3RPCError as error:
        raise RpcUnavailable(url, f"{call}: {_message(error)}", refused=True) from error


def _message(error: Web3RPCError) -> str:
    problem = (error.rpc_response or {}).get("error")
    return str(problem.get("message", problem)) if isinstance(problem, dict) else str(error.message)


def _revert(call: str, error: ContractLogicError) -> ChainError:
    data = error.data
    text = str(error.message or "no reason given")
    if not isinstance(data, str) or not data.startswith("0x"):
        return Reverted(call, text)
    raw = bytes.fromhex(data[2:])
    entry = abi.errors().get(raw[:4])
    try:
        if raw[:4] == _ERROR_STRING:
            return Reverted(call, str(decode(["string"], raw[4:])[0]))
        if raw[:4] == _PANIC:
            return Reverted(call, "Panic", (f"0x{decode(['uint256'], raw[4:])[0]:02x}",))
        if entry is not None:
            found = decode([i["type"] for i in entry["inputs"]], raw[4:])
            return Reverted(call, entry["name"], tuple(f"0x{a.hex()}" if isinstance(a, bytes) else a for a in found))
    except DecodingError:
        return Reverted(call, f"an error that cannot be read, {data}")
    return Reverted(call, text)
