"""Where the contracts are, and a connection to them whose errors are sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.signers import Signer
from covey_chain.wallet import Wallet

from covey_cli.errors import CommandError


@dataclass(frozen=True)
class Place:
    """Where the contracts are."""

    rpc_url: str
    chain_id: int
    contract: str


@asynccontextmanager
async def reading(place: Place) -> AsyncIterator[Chain]:
    """A connection; raises `CommandError` where the chain does not answer or refuses, then or inside."""
    try:
        chain = await Chain.connect(place.rpc_url, place.chain_id, place.contract)
        try:
            yield chain
        finally:
            await chain.close()
    except ChainError as error:
        raise CommandError(str(error)) from error


@asynccontextmanager
async def writing(place: Place, signed_by: Signer) -> AsyncIterator[Wallet]:
    """The same with an account that pays for transactions."""
    async with reading(place) as chain:
        yield Wallet(chain, signed_by)
