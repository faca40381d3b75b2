"""JSON-RPC calls with typed errors: the one place where web3's exceptions become this package's."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
from eth_abi import decode
from eth_abi.exceptions import DecodingError
from web3.exceptions import BadFunctionCallOutput, ContractCustomError, ContractLogicError, Web3Exception, Web3RPCError

from covey_chain import abi
from covey_chain.errors import ChainError, InsufficientFunds, NoContract, NonceTaken, Reverted, RpcUnavailable

T = TypeVar("T")


def revert(call: str, data: str | None, message: str) -> Reverted:
    """A revert with the name and arguments of the contract's custom error where there is one."""
    raw = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) and data.startswith("0x") else b""
    entry = abi.errors().get(raw[:4])
    if entry is None:
        return Reverted(call, message or "no reason given")
    try:
        arguments = decode([i["type"] for i in entry["inputs"]], raw[4:])
    except DecodingError:
        arguments = ()
    shown = tuple(f"0x{a.hex()}" if isinstance(a, bytes) else a for a in arguments)
    return Reverted(call, entry["name"], shown)


def translate(url: str, call: str, error: Exception) -> ChainError:
    """The typed error for what web3 raised in `call`."""
    match error:
        case ContractCustomError():
            return revert(call, str(error.data or error.args[0]), str(error))
        case ContractLogicError():
            return revert(call, str(error.data), str(error.message or error))
        case BadFunctionCallOutput():
            return NoContract(call, 0)
        case Web3RPCError():
            text = str(error).lower()
            if "nonce too low" in text or "already known" in text or "replacement transaction underpriced" in text:
                return NonceTaken(str(error))
            if "insufficient funds" in text:
                return InsufficientFunds("gas", "the wallet", "more native coin", "too little")
            return RpcUnavailable(url, str(error))
        case _:
            return RpcUnavailable(url, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


async def ask(url: str, call: str, request: Awaitable[T]) -> T:
    """Await a web3 request.

    Raises:
        ChainError: of the kind that fits what web3 raised.
    """
    try:
        return await request
    except (TimeoutError, Web3Exception, aiohttp.ClientError, OSError, ValueError) as error:
        raise translate(url, call, error) from error
