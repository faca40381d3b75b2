"""A deterministic world for the agreement machine: one heap of timed events, one seeded source of randomness.

Until the network heals it loses, delays, reorders, duplicates and splits; sites crash and come back with what their
disk holds. Promises are checked while it runs, and at the end; see `promises`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement_types import (
    EPOCH_VIEWS,
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
from covey_schedules.calls import attend, mislead
from covey_schedules.machines import SOUND, Machine
from covey_schedules.register import Register
from covey_schedules.setting import Setting
from covey_schedules.signatures import Signatures, StandIn
from covey_schedules.site import Site
from covey_schedules.tactics import TACTICS, Plot, Victim
from covey_schedules.telling import short, slot, tell
from covey_schedules.weather import Weather

TASK = bytes(31) + b"\x01"
END_SECONDS = 1200.0
VIEW_SECONDS, VIEW_SECONDS_MORE = 1.0, 0.5  # in the proportion of the validator's


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
        self._healed = False
        self._plots: dict[int, Plot] = {}
        self._undecided = 0
        self._vanished: set[str] = set()
        self.values: Sequence[bytes] = [bytes([n + 1]) * 32 for n in range(setting.values)]
        self.bad_values: Sequence[bytes] = [b"\xfe" * 32, b"\xff" * 32]
        everybody = machine.epoch(0, setting.weights, ())
        self.register = Register(setting.weights, setting.window_seconds)
        self.sites: dict[str, Site] = {}
        for name in setting.weights:
            if name not in setting.liars:
                instance = Instance(TASK, setting.round, 0, name, everybody)
                state = machine.resume(instance, (), (), 0)
                self.sites[name] = Site(name, instance, state, self.random.choice(self.values))
        self.instance = next(iter(self.sites.values())).instance
        self._weather = Weather(setting, self.random, everybody, self.sites)
        self._honest = list(self.sites.values())
        self._undecided = sum(self.returns(name) for name in self.sites)
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
        self._send(liar, site, self.number(self.signatures.sign(liar, message)))

    def repeat(self, liar: str, victim: Victim) -> None:
        """Send something again that was said before, by anybody."""
        if self.messages:
            number = self.random.randrange(len(self.messages))
            self._at(self.random.uniform(0, 5), self._take, self.sites[victim.name], number, True)

    def proposer(self, view: int) -> str:
        """Whose turn it is in a view, as far as anybody can know."""
        number = min(view // EPOCH_VIEWS, self.register.current)
        return self.machine.epoch(number, self.register.active(number), ()).proposer(self.setting.round, view)

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
            self._at(random.uniform(0, 3), self._look, site)
        for name, (leaves, _) in setting.gone.items():
            self._at(setting.heal_seconds if setting.vanish else leaves, self._vanish, self.sites[name])
        for name in sorted(setting.loses):
            self._at(random.uniform(0, setting.heal_seconds), self._crash, self.sites[name])
        for _ in range(setting.crashes):
            self._at(random.uniform(0, setting.heal_seconds), self._crash_one)
        for _ in range(setting.cuts):
            self._at(random.uniform(0, setting.heal_seconds), self._cut)
        for liar in setting.liars:
            self._at(random.uniform(0, 2), self._lie, liar, -1)
            if setting.has_calls:
                self._at(random.uniform(20, 40), self._mislead, liar)
        self._at(setting.heal_seconds, self._heal)

    def _heal(self) -> None:
        self._healed = True
        self.say("the network heals")

    def say(self, text: str) -> None:
        """Note something for a replay."""
        if self.trace is not None:
            self.trace(f"{self.now:8.3f}  {text}")

    # --- the network ------------------------------------------------------------------------------------------------

    def number(self, received: Received) -> int:
        """The number of a message, a new one if nobody has sent it before."""
        number = self._numbers.setdefault(received, len(self.messages))
        if number == len(self.messages):
            self.messages.append(received)
        return number

    def _cut(self) -> None:
        self.say(f"lines down: {self._weather.cut()}")

    def _broadcast(self, site: Site, number: int) -> None:
        for other in self._honest:
            if other is not site:
                self._send(site.name, other, number)

    def _send(self, sender: str, receiver: Site, number: int) -> None:
        if number in receiver.log:
            return  # saves the simulation a delivery that would change nothing
        if self._healed:
            self._at(self.random.expovariate(20), self._take, receiver, number)
            return
        for delay, again in self._weather.delays(sender, receiver.name):
            self._at(delay, self._take, receiver, number, again)

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
        if self.setting.wounds and not self._healed and self._weather.hurts(site.name, site.state, received, self.now):
            return
        if number in site.log:
            self.seen["heard twice"] += 1
        else:
            site.log[number] = None
            if isinstance(message, Proposal):
                self._learn(site, message.value)
            if message.site in self.setting.liars and (self._healed or self.setting.floods):
                self._broadcast(site, number)
        self.feed(site, received)

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
            self.feed(site, Candidate(site.candidate))
            self.feed(site, Start())

    def _crash_one(self) -> None:
        self._crash(self.random.choice(self._honest))

    def _crash(self, site: Site) -> None:
        if site.up:
            self.say(f"{short(site.name)} crashes")
            self.seen["crashes"] += 1
            self._fall(site)
            self._at(self.random.uniform(0, 5), self._restart, site, site.life)

    def _fall(self, site: Site) -> None:
        site.up = False
        site.life += 1
        if site.certificate is not None:
            site.certificate = None
            self._undecided += self.returns(site.name)

    def _vanish(self, site: Site) -> None:
        """For a long time, or for good; once."""
        if site.name in self._vanished:
            return
        self._vanished.add(site.name)
        self.say(f"{short(site.name)} is gone")
        self.seen["gone"] += 1
        if site.up:
            self._fall(site)
        site.life += 1  # a restart that is under way comes to nothing
        _, seconds = self.setting.gone[site.name]
        if seconds is not None:
            self._at(seconds, self._restart, site, site.life)

    def returns(self, name: str) -> bool:
        """Whether a site must decide: it is never away for good."""
        return name not in self.setting.gone or self.setting.gone[name][1] is not None

    def _restart(self, site: Site, life: int) -> None:
        """Come back with what is on disk: all that was written before the last signature, and perhaps some more."""
        if life != site.life:
            return
        if site.name in self.setting.loses and site.lost_at is None:
            self._lose(site)
        kept = list(site.log)[: self.random.randint(site.synced, len(site.log))]
        if not self.machine.stores_others:
            kept = [number for number in kept if self.messages[number].message.site == site.name]
        self.say(f"{short(site.name)} is back, {len(site.log) - len(kept)} messages forgotten")
        site.up, site.accused, site.waiting = True, set(), set()
        site.log, site.synced = dict.fromkeys(kept), len(kept)
        heard = [self.messages[number] for number in kept]
        own = [received for received in heard if received.message.site == site.name]
        site.known = {received.message.value for received in heard if isinstance(received.message, Proposal)}
        site.state = self.machine.resume(site.instance, own, site.epochs, site.votes_from)
        site.since = self.now
        if self.random.random() < 0.3:
            site.candidate = self.random.choice(self.values)
        for received in heard:
            if received.message.site != site.name:
                self.feed(site, received)
        for number in kept:
            self._broadcast(site, number)
        self._at(self.random.uniform(0, 1), self._start, site, site.life)

    def _lose(self, site: Site) -> None:
        """Its disk is gone; what lies elsewhere says that it may have signed, and which roll call it has answered."""
        self.say(f"{short(site.name)} has lost its disk")
        self.seen["disks lost"] += 1
        site.log, site.synced, site.epochs, site.shown = {}, 0, [], ()
        site.lost_at = site.left if self.machine.keeps_mark else None

    # --- roll calls -------------------------------------------------------------------------------------------------

    def _look(self, site: Site) -> None:
        if site.up and not self._is_out():
            attend(self, site)
        self._at(self.random.uniform(1, 3), self._look, site)

    def _mislead(self, liar: str) -> None:
        mislead(self, liar)
        self._at(self.random.uniform(1, 5), self._mislead, liar)

    def _is_out(self) -> bool:
        """Whether nobody reaches the chain."""
        return any(first <= self.now < last for first, last in self.setting.outages)

    def show(self, site: Site, number: int) -> None:
        """Let a site read a message on chain."""
        self._take(site, number)
        if self.messages[number].message.value and isinstance(self.messages[number].message, Proposal):
            self._learn(site, self.messages[number].message.value)

    def post(self, epoch: int, site: str, shown: tuple[int, ...]) -> None:
        """Send a transaction with an answer; it is lost if the chain is out when it would arrive."""
        self.say(f"{short(site)} answers the call for epoch {epoch}, showing {len(shown)} messages")
        self._at(self.random.expovariate(1), self._mine, epoch, site, shown)

    def _mine(self, epoch: int, site: str, shown: tuple[int, ...]) -> None:
        if not self._is_out():
            self.seen["answers"] += self.register.answer(epoch, site, shown, self.now)

    # --- sites ------------------------------------------------------------------------------------------------------

    def _in_life(self, site: Site, life: int, event: Event) -> None:
        if life == site.life:
            self.feed(site, event)

    def feed(self, site: Site, event: Event) -> None:
        """Hand an event to a site's machine, if the site is up."""
        if not site.up:
            return
        if self.trace is not None:
            self.say(f"{short(site.name)} ← {tell(event)}")
        site.state, actions = self.machine.step(site.state, event)
        for action in actions:
            self._act(site, action)

    def _act(self, site: Site, action: Action) -> None:
        if not site.up:
            return  # it crashed at an earlier action
        if self.trace is not None:
            self.say(f"{short(site.name)} → {tell(action)}")
        match action:
            case Sign(message):
                self._sign(site, message)
            case Schedule(stage, view):
                delay = VIEW_SECONDS + VIEW_SECONDS_MORE * (view % EPOCH_VIEWS)
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
                self._undecided -= self.returns(site.name)
                if self.setting.vanish and not self._healed and site.name in self.setting.gone:
                    for name in self.setting.gone:
                        self._vanish(self.sites[name])
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
        number = self.number(self.signatures.sign(site.name, message))
        site.log[number] = None  # on disk before it is sent, and with it all that came before
        site.synced = len(site.log)
        if random.random() < risk / 3:
            self._crash(site)  # signed, stored, told nobody
            return
        self._broadcast(site, number)
        if random.random() < risk / 3:
            self._crash(site)  # told others, not ourselves
            return
        self.feed(site, self.messages[number])

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
            self.say(f"{short(liar)} lies in view {view}: {tactic}")
            TACTICS[tactic](self, liar, view)
        self._at(random.uniform(0.2, 1.5), self._lie, liar, max(view, last))
