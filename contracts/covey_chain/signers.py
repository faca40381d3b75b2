"""Who signs an account's transactions: a key in this process, from hex or a keystore, or a signer elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from eth_utils.conversions import to_hex
from hexbytes import HexBytes

from covey_chain.errors import BadKeystore, SignerRefused, SignerUnavailable
from covey_chain.signing import private_key

SIGNER_TIMEOUT_SECONDS = 10.0
_SIGNATURE = ("v", "r", "s")
_DEFAULTS: dict[str, Any] = {"type": 2, "accessList": ()}


class Signer(Protocol):
    """Signs transactions of one account."""

    @property
    def address(self) -> str:
        """Checksum address of the account."""

    async def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """The signed transaction as it goes to `eth_sendRawTransaction`.

        Args:
            transaction: fields by their JSON-RPC names; quantities as integers, `data` as 0x-hex or bytes; `to` is
                b"" where a contract is made.

        Raises:
            SignerUnavailable: there is no signature now; asking again later may help.
            SignerRefused: there will be none.
        """


class KeySigner:
    """A key in this process; signing the same twice gives the same bytes (RFC 6979).

    Raises:
        BadWalletKey: `key` is not 0x and 64 hex digits of a secp256k1 key.
    """

    def __init__(self, key: str) -> None:
        self._account: LocalAccount = Account.from_key(private_key(key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySigner) and self._account == other._account

    def __hash__(self) -> int:
        return hash(self._account)

    @property
    def address(self) -> str:
        """See `Signer`."""
        return str(self._account.address)

    async def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """See `Signer`."""
        return bytes(self._account.sign_transaction(dict(transaction)).raw_transaction)


def open_keystore(keystore: str, password: str) -> KeySigner:
    """Decrypt a keystore (Web3 Secret Storage, version 3). Slow on purpose: a second and 256 MiB are usual.

    Raises:
        BadKeystore: not such a file, or the password is another. The message shows neither.
    """
    try:
        content = json.loads(keystore)
    except ValueError:
        raise BadKeystore("it is not JSON") from None
    if not isinstance(content, dict) or content.get("version") != 3:
        raise BadKeystore("it is not of version 3 of Web3 Secret Storage")
    try:
        return KeySigner("0x" + bytes(Account.decrypt(content, password)).hex())
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise BadKeystore("the password does not open it") from None
        raise BadKeystore("it cannot be decrypted") from None
    except (KeyError, TypeError, NotImplementedError):
        raise BadKeystore("fields are missing or unknown") from None


class RemoteSigner:
    """A signer behind HTTP that speaks `eth_signTransaction` as Web3Signer in its mode eth1 does.

    The answer is 0x-hex of the signed transaction. It is believed only if it is the transaction that was asked for,
    signed by the account.

    Args:
        url: of the signer's JSON-RPC; user and password in it are sent as basic authentication.
        address: the account; the signer holds its key.
        timeout_seconds: for a whole answer.
    """

    def __init__(self, url: str, address: str, timeout_seconds: float = SIGNER_TIMEOUT_SECONDS) -> None:
        self._url, self._address = url, to_checksum_address(address)
        self._timeout = aiohttp.ClientTimeout(timeout_seconds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteSigner) and (self._url, self._address) == (other._url, other._address)

    def __hash__(self) -> int:
        return hash((self._url, self._address))

    @property
    def address(self) -> str:
        """See `Signer`."""
        return self._address

    async def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """See `Signer`."""
        wanted = {n: to_hex(v) if isinstance(v, int | bytes) else v for n, v in transaction.items() if v != b""}
        raw = await self._ask("eth_signTransaction", {"from": self._address, **wanted})
        try:
            signed = HexBytes(raw)
            signer, fields = Account.recover_transaction(signed), TypedTransaction.from_bytes(signed).as_dict()
        except Exception:
            # eth_account and rlp raise kinds of their own for every way in which bytes are no transaction.
            raise SignerRefused(self._url, self._address, "its answer is no signed EIP-1559 transaction") from None
        if signer != self._address:
            raise SignerRefused(self._url, self._address, f"it signed as {signer}")
        if _plain(fields) != _plain(transaction):
            raise SignerRefused(self._url, self._address, "it signed another transaction; is it set to this chain?")
        return bytes(signed)

    async def _ask(self, method: str, *parameters: Any) -> str:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session:
                response = await session.post(self._url, json=request)
                answer = json.loads(await response.read())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise SignerUnavailable(self._url, f"{type(error).__name__}: {error}".rstrip(": ")) from error
        except ValueError:
            raise SignerUnavailable(self._url, f"HTTP {response.status} without JSON") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("result"), str):
            problem = answer.get("error") if isinstance(answer, dict) else None
            if isinstance(problem, dict):
                raise SignerRefused(self._url, self._address, str(problem.get("message", problem))[:200])
            raise SignerUnavailable(self._url, f"HTTP {response.status} without a result")
        return str(answer["result"])


def _plain(transaction: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that can be compared: bytes for hex, and nothing of the signature."""
    found = {name: value for name, value in {**_DEFAULTS, **transaction}.items() if name not in _SIGNATURE}
    return {n: bytes(HexBytes(v)) if isinstance(v, str | bytes) else v for n, v in found.items() if n != "from"}
