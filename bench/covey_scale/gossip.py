"""Signed messages to everybody, as `covey_exchange.gossip` spreads them: what is new goes on to all others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random

from covey_exchange.envelope import Message

from covey_scale.costs import Costs
from covey_scale.lines import Host, Pipe
from covey_scale.node import Core


@dataclass(frozen=True, eq=False)
class Parcel:
    """A message with its length on the wire; one object for all its copies."""

    message: Message
    size: int


class Gossip:
    """One site's end of it.

    Attributes:
        copies: how many were sent.
        bytes_sent: in them.
    """

    def __init__(
        self, core: Core, costs: Costs, hear: Callable[[Message], None], relays: int | None, random: Random
    ) -> None:
        """`relays`: to how many peers a new message of others goes on, chosen by chance; None for all, as built."""
        self._core = core
        self._costs = costs
        self._hear = hear
        self._relays = relays
        self._random = random
        self._known: set[Parcel] = set()
        self._pipes: dict[str, Pipe[Parcel]] = {}
        self.copies = self.bytes_sent = 0

    def link(self, site: str, own: Host, peer: Host, other: Gossip, name: str) -> None:
        """Stand in control connection with a peer; `name` is what it calls us."""
        self._pipes[site] = Pipe(own, peer, lambda parcels: other.receive(name, parcels))

    def say(self, parcel: Parcel) -> None:
        """Broadcast what we have just signed."""
        self._known.add(parcel)
        self._core.run(self._costs.sign + len(self._pipes) * self._costs.copy, self._send, [parcel], self._pipes)

    def admit(self, parcel: Parcel, source: str) -> None:
        """Take in what came in another way, as the header of an offer does; it has been verified."""
        if parcel not in self._known:
            self._known.add(parcel)
            self._core.run(0.0, self._pass_on, [parcel], source)

    def receive(self, source: str, parcels: list[Parcel]) -> None:
        """Messages from a peer."""
        new = [parcel for parcel in parcels if parcel not in self._known]
        self._known.update(new)
        seconds = len(parcels) * self._costs.copy + len(new) * self._costs.verify
        if new:
            self._core.run(seconds, self._pass_on, new, source)
        else:
            self._core.spend(seconds)

    def _pass_on(self, parcels: list[Parcel], source: str) -> None:
        others = [site for site in self._pipes if site != source]
        if self._relays is not None:
            others = self._random.sample(others, min(self._relays, len(others)))
        self._core.run(len(parcels) * len(others) * self._costs.copy, self._send, parcels, others)
        for parcel in parcels:
            self._hear(parcel.message)

    def _send(self, parcels: list[Parcel], sites: Collection[str]) -> None:
        for site in sites:
            pipe = self._pipes[site]
            for parcel in parcels:
                pipe.send(parcel.size, parcel)
        self.copies += len(parcels) * len(sites)
        self.bytes_sent += sum(parcel.size for parcel in parcels) * len(sites)
