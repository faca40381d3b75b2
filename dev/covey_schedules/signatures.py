"""Who signed a message: real session keys, or a stand-in that costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from covey_chain import signing
from covey_chain.types import Proposal, Vote
from covey_exchange.agreement_types import Received
from eth_utils.crypto import keccak

_DOMAIN = signing.Domain(31337, "0x" + "c0" * 20)


class Signatures(Protocol):
    """Signs in the name of a site, and tells whether the site that a message names has signed it."""

    def sign(self, signer: str, message: Proposal | Vote) -> Received:
        """The message with the signature of `signer`, which need not be the site that it names."""
        ...

    def is_genuine(self, received: Received) -> bool:
        """Whether the site that the message names has signed it."""
        ...


class StandIn:
    """The signer's address stands for a signature; nobody in the world makes another use of it."""

    def sign(self, signer: str, message: Proposal | Vote) -> Received:
        """See `Signatures`."""
        return Received(message, signer.encode())

    def is_genuine(self, received: Received) -> bool:
        """See `Signatures`."""
        return received.signature == received.message.site.encode()


class SessionKeys:
    """EIP-712 signatures of secp256k1 keys, as a validator makes and checks them."""

    def __init__(self, sites: Iterable[str]) -> None:
        self._keys = {site: bytes(keccak(text=f"session key of {site}")) for site in sites}
        self._addresses = {site: signing.address_of(key) for site, key in self._keys.items()}
        self._checked: dict[Received, bool] = {}

    def sign(self, signer: str, message: Proposal | Vote) -> Received:
        """See `Signatures`."""
        return Received(message, signing.sign(_DOMAIN, message, self._keys[signer]))

    def is_genuine(self, received: Received) -> bool:
        """See `Signatures`."""
        if received not in self._checked:
            signer = signing.recover(_DOMAIN, received.message, received.signature)
            self._checked[received] = signer == self._addresses[received.message.site]
        return self._checked[received]
