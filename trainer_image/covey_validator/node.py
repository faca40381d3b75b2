"""What all parts of one validator share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from covey_chain.types import Provable, Signable
from covey_exchange.codec import CodecSpec, Update, decode
from covey_exchange.envelope import Message, SiteUpdate
from covey_exchange.exchange import Exchange
from covey_exchange.manifest import Array, Manifest

from covey_validator.archive import Archive
from covey_validator.clerk import Clerk
from covey_validator.driver import DriverSession
from covey_validator.history import History
from covey_validator.progress import Progress
from covey_validator.records import Signers
from covey_validator.rollbook import RollBook
from covey_validator.store import Store
from covey_validator.task import Task
from covey_validator.tensors import SharedDirectory
from covey_validator.watermark import WaterMark

Accused = tuple[Provable, bytes]  # a message and its signature


@dataclass
class Node:
    """One site's parts for one task.

    Attributes:
        task: replaced when participants change keys or end points on chain.
        session_key: 32 bytes; signs everything.
        holdout_examples: records that this site can judge on.
        archive: updates that counted.
        history: everybody's account, from all certified rounds.
        clerk: what the chain says of appeals.
        roll: epochs, and what we must not sign any more.
        watermark: how far we have signed, on another volume.
        accusations: pairs of messages that one site signed for one slot, until the chain has them.
    """

    task: Task
    site: str
    session_key: bytes
    store: Store
    exchange: Exchange
    session: DriverSession
    shared: SharedDirectory
    manifest: Manifest
    holdout_examples: int
    progress: Progress
    archive: Archive
    history: History
    clerk: Clerk
    roll: RollBook
    watermark: WaterMark
    accusations: list[tuple[Accused, Accused]] = field(default_factory=list)

    @property
    def codec(self) -> CodecSpec:
        """Codec of the task."""
        return self.task.codec

    @property
    def signers(self) -> Signers:
        """Who may sign results, in which epoch."""
        return replace(self.task.signers, epochs=tuple(epoch.weights for epoch in self.roll.epochs))

    def sign(self, body: Signable, attachment: bytes = b"") -> Message:
        """Sign once: what was signed for the same slot before is given back; on disk when this returns.

        Raises:
            DoubleSignature: something else was signed for the slot.
        """
        known = self.store.signed(body)
        if known is not None:
            return known
        message = self.exchange.roster.verify(self.exchange.roster.seal(body, self.session_key, attachment))
        self.store.add_message(message)
        return message

    def decode(self, update: SiteUpdate) -> Update:
        """The tensors of an update.

        Raises:
            DecodeError: it is no canonical update; names the site.
        """
        return decode(update.payload, self.codec.at_round(update.header.round), self.manifest, update.site)


@dataclass(frozen=True)
class Base:
    """The model that a round starts from."""

    parameters: dict[str, Array]
    digest: bytes
