"""A deterministic world for the agreement machine: one heap of timed events, one seeded source of randomness.

Until the network heals it loses, delays, reorders, duplicates and splits; sites crash and come back with what their
disk holds. Promises are checked while it runs, and at the end; see `promises`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement import State
from covey_exchange.agreement_types import (
    NIL,
    Action,
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

from covey_schedules import promises
from covey_schedules.machines import SOUND, Machine
from covey_schedules.setting import Setting
from covey_schedules.signatures import Signatures, StandIn
from covey_schedules.tactics import TACTICS, Plot, Victim

TASK = bytes(31) + b"\x01"
END_SECONDS = 1200.0
VIEW_SECONDS, VIEW_SECONDS_MORE = 1.0, 0.5  # in the proportion of the validator's


@dataclass
class Site:
    """One honest site: its machine, and what its disk holds.

    Attributes:
        log: numbers of all messages, ours and others', in the order in which they were written.
        synced: how many of them survive a crash for sure: all that was written before our last signature.
        known: values whose bytes are here.
        waiting: values that the machine asked about and whose bytes are not here.
        life: timers of an earlier life are dead.
        accused: sites that this life has accused.
    """

    name: str
    instance: Instance
    state: State
    candidate: bytes
    log: dict[int, None] = field(default_factory=dict)
    synced: int = 0
    known: set[bytes] = field(default_factory=set)
    waiting: set[bytes] = field(default_factory=set)
    up: bool = True
    life: int = 0
    certificate: Certificate | None = None
    accused: set[str] = field(default_factory=set)


class World:
    """All sites of one schedule. `run` plays it to the end.

    Attributes:
        messages: everything that was ever said, by number.
        seen: how often what happened, to know what the schedules reach.
    """

    def __init__(
        self,
        setting: Setting,
        machine: Machine = SOUND,
        signatures: Signatures | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.setting = setting
        self.machine = machine
        self.signatures = signatures or StandIn()
        self.trace = trace
        self.random = Random(f"world {setting.seed}")  # noqa: S311 (to be repeated, no secret)
        self.now = 0.0
        self.messages: list[Received] = []
        self.seen: Counter[str] = Counter()
        self.decided: bytes | None = None
        self.certificates: list[Certificate] = []
        self._numbers: dict[Received, int] = {}
        self._signed: dict[tuple[str, int, int], Proposal | Vote] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._down: frozenset[tuple[str, str]] = frozenset()
        self._healed = False
        self._wounds: dict[int, tuple[tuple[frozenset[str], float], ...]] = {}
        self._plots: dict[int, Plot] = {}
        self._undecided = 0
        self.values: Sequence[bytes] = [bytes([n + 1]) * 32 for n in range(setting.values)]
        self.bad_values: Sequence[bytes] = [b"\xfe" * 32, b"\xff" * 32]
        names = list(setting.weights)
        self.instance = machine.instance(TASK, setting.round, 0, names[0], setting.weights)
        self.sites: dict[str, Site] = {}
        for name in names:
            if name not in setting.liars:
                instance = machine.instance(TASK, setting.round, 0, name, setting.weights)
                self.sites[name] = Site(name, instance, machine.resume(instance, ()), self.random.choice(self.values))
        self._honest = list(self.sites.values())
        self._undecided = len(self._honest)
        self._plan()

    # --- what liars see ---------------------------------------------------------------------------------------------

    @property
    def victims(self) -> Sequence[Victim]:
        """All honest sites."""
        return self._honest

    def plot(self, view: int) -> Plot:
        """What liars have agreed to do in a view."""
        if view not in self._plots:
            random = self.random
            values = random.choice(self.values), random.choice([*self.values, self.values[0], NIL])
            half = frozenset(name for name in self.sites if random.random() < 0.5)
            self._plots[view] = Plot(*values, half, random.choice([-1, -1, random.randint(-1, view + 1)]))
        return self._plots[view]

    def tell(self, liar: str, victim: Victim, message: Proposal | Vote) -> None:
        """Send a message to one site, signed by the liar in whatever name it says."""
        site = self.sites[victim.name]
        self._send(liar, site, self._number(self.signatures.sign(liar, message)))

    def repeat(self, liar: str, victim: Victim) -> None:
        """Send something again that was said before, by anybody."""
        if self.messages:
            number = self.random.randrange(len(self.messages))
            self._at(self.random.uniform(0, 5), self._take, self.sites[victim.name], number, True)

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play until all have decided.

        Raises:
            BrokenPromise: a promise does not hold.
        """
        while self._undecided and self.now < END_SECONDS:
            self.now, _, happen, arguments = heapq.heappop(self._heap)
            happen(*arguments)
        promises.check_end(self)

    def _at(self, delay: float, happen: Callable[..., None], *arguments: object) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, happen, arguments))

    def _plan(self) -> None:
        setting, random = self.setting, self.random
        for site in self._honest:
            self._at(random.expovariate(1), self._start, site, 0)
            self._at(random.uniform(0, 3), self._meet, site)
        for _ in range(setting.crashes):
            self._at(random.uniform(0, setting.heal_seconds), self._crash_one)
        for _ in range(setting.cuts):
            self._at(random.uniform(0, setting.heal_seconds), self._cut)
        for liar in setting.liars:
            self._at(random.uniform(0, 2), self._lie, liar, -1)
        self._at(setting.heal_seconds, self._heal)

    def _heal(self) -> None:
        self._healed = True
        self._say("the network heals")

    def _say(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.now:8.3f}  {text}")

    # --- the network ------------------------------------------------------------------------------------------------

    def _number(self, received: Received) -> int:
        number = self._numbers.setdefault(received, len(self.messages))
        if number == len(self.messages):
            self.messages.append(received)
        return number

    def _cut(self) -> None:
        """Draw anew which directed lines are down: between two halves, single ones, all of one site, or none."""
        names, random = list(self.setting.weights), self.random
        kind = random.choice(["halves", "lines", "one site", "none"])
        half = {name for name in names if random.random() < 0.5} if kind == "halves" else {random.choice(names)}
        self._down = frozenset(
            (a, b)
            for a in names
            for b in names
            if kind != "none" and (random.random() < 0.4 if kind == "lines" else (a in half) != (b in half))
        )
        self._say(f"lines down: {kind}")

    def _broadcast(self, site: Site, number: int) -> None:
        for other in self._honest:
            if other is not site:
                self._send(site.name, other, number)

    def _send(self, sender: str, receiver: Site, number: int) -> None:
        if number in receiver.log:
            return  # saves the simulation a delivery that would change nothing
        random, setting = self.random, self.setting
        if self._healed:
            self._at(random.expovariate(20), self._take, receiver, number)
            return
        if (sender, receiver.name) in self._down or random.random() < setting.loss:
            return
        if random.random() < setting.twice:
            self._at(random.uniform(0, setting.slow_seconds), self._take, receiver, number, True)
        is_slow = random.random() < setting.slow
        delay = random.uniform(0, setting.slow_seconds) if is_slow else random.expovariate(4)
        self._at(delay, self._take, receiver, number)

    def _hurts(self, receiver: Site, message: Proposal | Vote) -> bool:
        """Whether a wounded view keeps this from the site: the proposal, or the vote that completes a quorum."""
        _, view, kind = slot(message)
        if view not in self._wounds:
            self._wounds[view] = self._wound()
        who, until = self._wounds[view][kind]
        if receiver.name not in who or self.now > until:
            return False
        behind = receiver.state.heard(view, kind).by_value.get(message.value, 0) + self.setting.weights[message.site]
        return kind == 0 or (message.value != NIL and self.instance.is_quorum(behind))

    def _wound(self) -> tuple[tuple[frozenset[str], float], ...]:
        """From whom the proposal, the decisive prevote and the decisive precommit of one view are kept, until when.

        Those without the proposal say nil, and so do those without the prevote; neither are so many that nobody can
        decide. Of the rest one sees the decision, or nobody; the others see that something else was said, and go on.
        """
        random = self.random
        if random.random() >= self.setting.wounds:
            return ((frozenset(), 0.0),) * 3
        blind, doubtful = self._minority(), self._minority()
        lucky = frozenset(random.sample(sorted(self.sites), min(len(self.sites), random.choice([0, 1, 1, 2]))))
        return (
            (blind, self.now + 4),
            (doubtful - lucky, self.now + random.uniform(3, 10)),
            (frozenset(self.sites) - lucky, self.now + random.uniform(4, 40)),
        )

    def _minority(self) -> frozenset[str]:
        """Some honest sites with less than a third of the stake."""
        chosen: set[str] = set()
        most = self.random.randint(1, 3)
        for name in self.random.sample(sorted(self.sites), len(self.sites)):
            weight = sum(self.setting.weights[other] for other in chosen) + self.setting.weights[name]
            if len(chosen) < most and not self.instance.has_honest(weight):
                chosen.add(name)
        return frozenset(chosen)

    def _meet(self, site: Site) -> None:
        """What the exchange does on every reconnect: hand over all messages of the round that the peer lacks."""
        for other in self._honest:
            if other is not site and site.up and (self._healed or self.random.random() < 0.5):
                for number in site.log:
                    if number not in other.log:
                        self._send(site.name, other, number)
        self._at(self.random.uniform(1, 3 if self._healed else 4), self._meet, site)

    def _take(self, site: Site, number: int, again: bool = False) -> None:
        if not site.up or (number in site.log and not again):
            return
        received = self.messages[number]
        message = received.message
        if not self.signatures.is_genuine(received):
            self.seen["forged, refused"] += 1
            return
        if self.setting.wounds and not self._healed and self._hurts(site, message):
            return
        if number in site.log:
            self.seen["heard twice"] += 1
        else:
            site.log[number] = None
            if isinstance(message, Proposal):
                self._learn(site, message.value)
            if message.site in self.setting.liars and (self._healed or self.setting.floods):
                self._broadcast(site, number)
        self._feed(site, received)

    def _learn(self, site: Site, value: bytes) -> None:
        """The bytes behind a value come with its proposal."""
        site.known.add(value)
        if value in site.waiting:
            site.waiting.remove(value)
            self._judge(site, value)

    def _judge(self, site: Site, value: bytes) -> None:
        seldom = not self._healed and self.random.random() < self.setting.slow
        delay = self.random.uniform(0, 10) if seldom else self.random.expovariate(8)
        self._at(delay, self._in_life, site, site.life, Judged(value, value in self.values))

    # --- crashes ----------------------------------------------------------------------------------------------------

    def _start(self, site: Site, life: int) -> None:
        if life == site.life and site.up:
            site.known.add(site.candidate)
            self._feed(site, Candidate(site.candidate))
            self._feed(site, Start())

    def _crash_one(self) -> None:
        self._crash(self.random.choice(self._honest))

    def _crash(self, site: Site) -> None:
        if not site.up:
            return
        self._say(f"{_short(site.name)} crashes")
        self.seen["crashes"] += 1
        site.up = False
        site.life += 1
        if site.certificate is not None:
            site.certificate = None
            self._undecided += 1
        self._at(self.random.uniform(0, 5), self._restart, site)

    def _restart(self, site: Site) -> None:
        """Come back with what is on disk: all that was written before the last signature, and perhaps some more."""
        kept = list(site.log)[: self.random.randint(site.synced, len(site.log))]
        if not self.machine.stores_others:
            kept = [number for number in kept if self.messages[number].message.site == site.name]
        self._say(f"{_short(site.name)} is back, {len(site.log) - len(kept)} messages forgotten")
        site.up, site.accused, site.waiting = True, set(), set()
        site.log, site.synced = dict.fromkeys(kept), len(kept)
        heard = [self.messages[number] for number in kept]
        own = [received for received in heard if received.message.site == site.name]
        site.known = {received.message.value for received in heard if isinstance(received.message, Proposal)}
        site.state = self.machine.resume(site.instance, own)
        if self.random.random() < 0.3:
            site.candidate = self.random.choice(self.values)
        for received in heard:
            if received.message.site != site.name:
                self._feed(site, received)
        for number in kept:
            self._broadcast(site, number)
        self._at(self.random.uniform(0, 1), self._start, site, site.life)

    # --- sites ------------------------------------------------------------------------------------------------------

    def _in_life(self, site: Site, life: int, event: Event) -> None:
        if life == site.life:
            self._feed(site, event)

    def _feed(self, site: Site, event: Event) -> None:
        if not site.up:
            return
        if self.trace is not None:
            self._say(f"{_short(site.name)} ← {_tell(event)}")
        site.state, actions = self.machine.step(site.state, event)
        for action in actions:
            self._act(site, action)

    def _act(self, site: Site, action: Action) -> None:
        if not site.up:
            return  # it crashed at an earlier action
        if self.trace is not None:
            self._say(f"{_short(site.name)} → {_tell(action)}")
        match action:
            case Sign(message):
                self._sign(site, message)
            case Schedule(stage, view):
                delay = VIEW_SECONDS + VIEW_SECONDS_MORE * view
                self._at(delay, self._in_life, site, site.life, Timeout(stage, view))
            case Judge(value):
                if value in site.known:
                    self._judge(site, value)
                else:
                    site.waiting.add(value)
            case Certificate():
                promises.check_decision(self, action)
                self.decided = action.value
                self.certificates.append(action)
                site.certificate = action
                self._undecided -= 1
            case Equivocation():
                promises.check_accusation(self, action)
                site.accused.add(action.first.message.site)

    def _sign(self, site: Site, message: Proposal | Vote) -> None:
        random, risk = self.random, 0.0 if self._healed else self.setting.crash_at_signing
        if random.random() < risk / 3:
            self._crash(site)  # nothing is signed
            return
        promises.check_signing(self, site, message)
        self._signed[slot(message)] = message
        number = self._number(self.signatures.sign(site.name, message))
        site.log[number] = None  # on disk before it is sent, and with it all that came before
        site.synced = len(site.log)
        if random.random() < risk / 3:
            self._crash(site)  # signed, stored, told nobody
            return
        self._broadcast(site, number)
        if random.random() < risk / 3:
            self._crash(site)  # told others, not ourselves
            return
        self._feed(site, self.messages[number])

    def signed(self, key: tuple[str, int, int]) -> Proposal | Vote | None:
        """What an honest site has signed for a slot."""
        return self._signed.get(key)

    # --- liars ------------------------------------------------------------------------------------------------------

    def _lie(self, liar: str, last: int) -> None:
        """Once in each view that somebody reaches, and seldom again in the same."""
        random = self.random
        view = random.choice(self._honest).state.view
        if view > last or random.random() < 0.1:
            tactic = random.choice(self.setting.liars[liar])
            self._say(f"{_short(liar)} lies in view {view}: {tactic}")
            TACTICS[tactic](self, liar, view)
        self._at(random.uniform(0.2, 1.5), self._lie, liar, max(view, last))


def slot(message: Proposal | Vote) -> tuple[str, int, int]:
    """What a site may sign only once: site, view, kind (0 is a proposal)."""
    return message.site, message.view, message.kind if isinstance(message, Vote) else 0


def _short(site: str) -> str:
    return f"site {int(site, 16)}"


def _value(value: bytes) -> str:
    return "nil" if value == NIL else value[:1].hex()


def _tell(what: Event | Action) -> str:
    match what:
        case Received(message) | Sign(message):
            kind = ("proposal", "prevote", "precommit")[slot(message)[2]]
            proof = f" proven by view {message.valid_view}" if isinstance(message, Proposal) else ""
            return f"{type(what).__name__} {kind} of {_short(message.site)}, view {message.view}: " + (
                _value(message.value) + proof
            )
        case Certificate(value, view):
            return f"Certificate, view {view}: {_value(value)}"
        case Candidate(value) | Judge(value):
            return f"{type(what).__name__} {_value(value)}"
        case Judged(value, valid):
            return f"Judged {_value(value)} {'valid' if valid else 'invalid'}"
        case Equivocation(first, second):
            return f"Equivocation: {_tell(first)}, and {_tell(second)}"
        case Timeout(stage, view) | Schedule(stage, view):
            return f"{type(what).__name__} {stage.name} of view {view}"
        case Start():
            return "Start"
