"""`covey deploy`: the contracts of a consortium on a chain, and the consortium itself, once."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from covey_chain.client import Chain
from covey_chain.deploy import OtherRecord, deploy_all
from covey_chain.errors import ChainError
from covey_chain.signers import KeySigner, RemoteSigner, Signer, open_keystore
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet

from covey_cli.errors import CommandError

BY_VOTE = 1


@dataclass(frozen=True)
class Founding:
    """A consortium to create.

    Attributes:
        name: its name on chain.
        least_stake: in whole tokens.
        by_vote: whether members admit members.
    """

    name: str
    least_stake: str
    by_vote: bool


def signer(
    key: Path | None, keystore: Path | None, password: Path | None, url: str | None, address: str | None
) -> Signer:
    """The signer of one of: a key file; a keystore with a password file; a URL with an address.

    Raises:
        CommandError: none or several are given, or a file is not what it should be.
    """
    if sum(way is not None for way in (key, keystore, url)) != 1:
        raise CommandError("say who signs: --key-file, or --keystore with --password-file, or --signer with --address")
    if (keystore is None) != (password is None) or (url is None) != (address is None):
        raise CommandError("--keystore goes with --password-file, and --signer with --address")
    try:
        if key is not None:
            return KeySigner(key.read_text())
        if keystore is not None and password is not None:
            return open_keystore(keystore.read_text(), password.read_text().rstrip("\r\n"))
    except ChainError as error:
        raise CommandError(str(error)) from error
    assert url is not None, "the last way"
    assert address is not None, "goes with it"
    try:
        return RemoteSigner(url, address)
    except ValueError as error:
        raise CommandError(f"{address} is no address") from error


async def deploy(
    rpc_url: str, chain_id: int, signed_by: Signer, token: str | None, record: Path, founding: Founding | None
) -> str:
    """Deploy what is missing, create the consortium if it is not there, and return what to write down.

    Raises:
        CommandError: the chain, a contract or the record refuses; says what to do.
    """
    try:
        made = await deploy_all(rpc_url, signed_by, token, record, chain_id)
        said = _addresses(made)
        if founding is not None:
            said += await _found(rpc_url, chain_id, signed_by, made, founding)
        return said
    except (ChainError, OtherRecord) as error:
        raise CommandError(str(error)) from error


async def _found(rpc_url: str, chain_id: int, signed_by: Signer, made: Deployment, founding: Founding) -> str:
    chain = await Chain.connect(rpc_url, chain_id, made.settlement)
    try:
        least = _units(founding.least_stake, await chain.token_decimals(made.token))
        admission = BY_VOTE if founding.by_vote else 0
        receipt = await Wallet(chain, signed_by).create_consortium(founding.name, made.token, least, admission)
    finally:
        await chain.close()
    return f"consortium      {founding.name}{'' if receipt.tx_hash else ' (was there already)'}\n"


def _addresses(made: Deployment) -> str:
    return (
        f"Settlement      {made.settlement}\n"
        f"MemberRegistry  {made.registry}\n"
        f"TaskMarket      {made.market}\n"
        f"stake token     {made.token}\n"
    )


def _units(whole: str, decimals: int) -> int:
    try:
        amount = Decimal(whole).scaleb(decimals)
    except InvalidOperation:
        raise CommandError(f'"{whole}" is no amount of tokens') from None
    if amount < 0 or amount != amount.to_integral_value():
        raise CommandError(f"{whole} is no stake in a token with {decimals} decimal places")
    return int(amount)
