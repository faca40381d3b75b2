"""A deterministic world for the agreement machine: one heap of timed deliveries, one seeded random source.

The network loses, delays, reorders, duplicates and splits until `heal`; sites crash and come back with nothing but what
they stored. Liars sign two values for every slot and tell each half of the others another one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement import State, resume, step
from covey_exchange.agreement_types import (
    NIL,
    Candidate,
    Certificate,
    Equivocation,
    Event,
    Instance,
    Judge,
    Judged,
    Received,
    Schedule,
    Sign,
    Start,
    Timeout,
)

HEAL_SECONDS = 60.0
END_SECONDS = 600.0


@dataclass
class Site:
    """One honest site: its machine, and what its disk holds."""

    name: str
    instance: Instance
    candidate: bytes
    state: State
    own: list[Received] = field(default_factory=list)
    others: dict[Received, None] = field(default_factory=dict)  # in order of arrival
    up: bool = True
    life: int = 0  # timers of an earlier life are dead
    certificate: Certificate | None = None


class World:
    """All sites of one schedule; everything in it follows from the seed."""

    def __init__(self, seed: int, sites: int, *, liars: int = 0, crashes: int = 3, loss: float = 0.2) -> None:
        self.seed = seed
        self.random = Random(seed)
        names = [f"0x{index:040x}" for index in range(1, sites + 1)]
        self.weights = {name: self.random.randint(1, 100) for name in names} if seed % 2 else dict.fromkeys(names, 1)
        self.liars = self._choose_liars(names, liars)
        self.loss = loss
        self.values = [bytes([index + 1]) * 32 for index in range(sites)]
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.sequence = 0
        self.slots: dict[tuple[object, ...], Proposal | Vote] = {}
        self.accused: set[str] = set()
        self.down: set[tuple[str, str]] = set()
        self.sites: dict[str, Site] = {}
        round_number = self.random.randint(0, 50)
        for index, name in enumerate(names):
            instance = Instance(bytes(31) + b"\x01", round_number, 0, name, self.weights)
            if name not in self.liars:
                self.sites[name] = Site(name, instance, self.values[index], State(instance))
        for site in self.sites.values():
            self.at(self.random.expovariate(2), lambda site=site: self.start(site))
            self.at(self.random.uniform(0, 3), lambda site=site: self.gossip(site))
        for _ in range(crashes):
            self.at(self.random.uniform(0, HEAL_SECONDS), self.crash)
        for _ in range(20):
            self.at(self.random.uniform(0, HEAL_SECONDS), self.cut)
        for name in self.liars:
            self.at(self.random.uniform(0, 5), lambda name=name: self.lie(name, 0))

    def _choose_liars(self, names: list[str], count: int) -> list[str]:
        chosen: list[str] = []
        for name in self.random.sample(names, len(names)):
            weight = sum(self.weights[liar] for liar in [*chosen, name])
            if len(chosen) < count and 3 * weight < sum(self.weights.values()):
                chosen.append(name)
        return chosen

    def at(self, delay: float, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.heap, (self.now + delay, self.sequence, action))

    def run(self) -> None:
        while self.heap and self.now < END_SECONDS and not self.all_decided():
            self.now, _, action = heapq.heappop(self.heap)
            action()

    def all_decided(self) -> bool:
        return all(site.certificate is not None for site in self.sites.values())

    @property
    def healed(self) -> bool:
        return self.now >= HEAL_SECONDS

    def start(self, site: Site) -> None:
        self.feed(site, Candidate(site.candidate))
        self.feed(site, Start())

    def cut(self) -> None:
        """Draw anew which directed lines are down: two halves, single lines, or none."""
        names = list(self.weights)
        lines = [(a, b) for a in names for b in names]
        half = {name for name in names if self.random.random() < 0.5}
        self.down = self.random.choice(
            [
                {(a, b) for a, b in lines if (a in half) != (b in half)},
                {line for line in lines if self.random.random() < 0.4},
                set(),
            ]
        )

    def crash(self) -> None:
        site = self.random.choice(list(self.sites.values()))
        site.up = False
        site.life += 1
        self.at(self.random.uniform(0, 10), lambda: self.restart(site))

    def restart(self, site: Site) -> None:
        if site.up:
            return
        site.up = True
        kept = list(site.others)[: self.random.randint(0, len(site.others))]  # only what it signed must survive
        site.others = {}
        site.state = resume(site.instance, site.own)
        for received in kept:
            self.take(site, received)
        self.start(site)

    def gossip(self, site: Site) -> None:
        """What the exchange does on every reconnect: hand over all messages of the round again."""
        if site.up:
            for received in [*site.own, *site.others]:
                for other in self.sites.values():
                    if other is not site:
                        self.send(site.name, other, received)
        self.at(3.0 if self.healed else 12.0, lambda: self.gossip(site))

    def send(self, sender: str, receiver: Site, received: Received) -> None:
        if received in receiver.others:
            return  # saves the simulation a delivery that would change nothing
        if not self.healed:
            if (sender, receiver.name) in self.down or self.random.random() < self.loss:
                return
            if self.random.random() < 0.1:
                self.at(self.random.uniform(0, 20), lambda: self.take(receiver, received))
        # Before the network heals a tenth of the messages outlive several views, which is what locks are there for.
        slow = not self.healed and self.random.random() < 0.1
        delay = self.random.uniform(0, 15) if slow else self.random.expovariate(2 if not self.healed else 20)
        self.at(delay, lambda: self.take(receiver, received))

    def take(self, site: Site, received: Received) -> None:
        if not site.up or received in site.others:
            return
        site.others[received] = None
        self.feed(site, received)

    def feed(self, site: Site, event: Event) -> None:
        if not site.up:
            return
        site.state, actions = step(site.state, event)
        for action in actions:
            self.act(site, action)

    def act(self, site: Site, action: object) -> None:
        match action:
            case Sign(message):
                slot = (message.site, message.view, message.kind if isinstance(message, Vote) else 0)
                assert self.slots.setdefault(slot, message) == message, "an honest site signed twice for one slot"
                received = Received(message, b"signature")
                site.own.append(received)  # stored before it is sent
                if self.random.random() < 0.02 and not self.healed:
                    site.up, site.life = False, site.life + 1  # crash between the disk and the network
                    self.at(self.random.uniform(0, 10), lambda: self.restart(site))
                    return
                self.feed(site, received)
                for other in self.sites.values():
                    if other is not site:
                        self.send(site.name, other, received)
            case Schedule(stage, view):
                life = site.life
                self.at(1 + 0.5 * view, lambda: life == site.life and self.feed(site, Timeout(stage, view)))
            case Judge(value):
                known = value in self.values
                self.at(self.random.expovariate(4), lambda: self.feed(site, Judged(value, known)))
            case Certificate():
                assert site.certificate is None or site.certificate.value == action.value
                site.certificate = action
            case Equivocation(first, second):
                assert first.message != second.message
                assert first.message.site == second.message.site
                assert first.message.view == second.message.view
                self.accused.add(first.message.site)

    def lie(self, name: str, view: int) -> None:
        """Sign two values for every slot of a view; each site hears one of them, gossip carries the other."""
        instance = replace(next(iter(self.sites.values())).instance, site=name)
        pair = self.random.choice([(self.values[0], self.values[1]), (self.values[0], NIL), (b"\xff" * 32, NIL)])
        for site in self.sites.values():
            value = self.random.choice(pair)
            messages: list[Proposal | Vote] = [
                Vote(instance.task_id, instance.round, 0, view, kind, value, name) for kind in (1, 2)
            ]
            if instance.proposer(view) == name:
                messages.append(Proposal(instance.task_id, instance.round, 0, view, -1, value, name))
            for message in messages:
                self.send(name, site, Received(message, b"signature"))
        if view < 15:
            self.at(self.random.uniform(0.5, 4), lambda: self.lie(name, view + 1))
