"""Several round machines on one deterministic bus: seeded delays, loss, crashes with restart from what was stored."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

from covey_chain.signing import struct_hash
from covey_chain.types import Signable, UpdateHeader
from covey_exchange.envelope import Message
from covey_exchange.messages import Envelope
from covey_validator import round as machine
from covey_validator.incentives.book import Book
from covey_validator.incentives.docket import Docket, Filed, Verdict
from covey_validator.incentives.geometry import Gram
from covey_validator.incentives.sources import Auditor
from covey_validator.incentives.terms import Rule
from covey_validator.round_types import (
    Absorb,
    Accuse,
    Action,
    Begin,
    CatchUp,
    Certified,
    Deadline,
    Elapsed,
    Encode,
    Evaluate,
    Evaluated,
    Event,
    Fail,
    Fetch,
    Heard,
    KeepScores,
    Merge,
    Merged,
    Send,
    SetTimer,
    Setting,
    State,
    Train,
    Trained,
    UpdateArrived,
    Weigh,
    Weighed,
)
from covey_validator.scoring import ABSTENTION, Scores
from covey_validator.store import slot
from covey_validator.verdict import Ledger

TASK = bytes(31) + b"\x09"
BASE = b"\xba" * 32
CODEC = b"\xc0" * 32
DEADLINE_SECONDS = 30.0
HEAL_SECONDS = 60.0
END_SECONDS = 1200.0


def addresses(count: int) -> list[str]:
    from eth_utils import to_checksum_address

    return [to_checksum_address(f"0x{index:040x}") for index in range(1, count + 1)]


def signed(site: str, body: Signable, attachment: bytes = b"") -> Message:
    return Message(site, Envelope(body, bytes(65), attachment), struct_hash(body))


def gram(sites: Iterable[str], accepted: bool) -> Gram:
    """Everybody has gone its own way, equally far."""
    ordered = tuple(sorted(sites))
    return Gram(ordered, tuple(tuple(int(accepted and i == j) for j in ordered) for i in ordered))


def setting(site: str, sites: list[str], **changes: object) -> Setting:
    stakes, places = dict.fromkeys(sites, 10), {each: place for place, each in enumerate(sites)}
    values: dict[str, object] = {
        "task_id": TASK,
        "round": 1,
        "site": site,
        "ledger": Ledger(stakes, Fraction(1, 100), Book.open(Rule(epoch_rounds=1), stakes, places, 900, 3, Auditor())),
        "trainers": frozenset(sites),
        "validators": frozenset(sites),
        "min_updates": 2,
        "base": BASE,
        "codec": CODEC,
        "salt": hashlib.sha256(site.encode()).digest(),
    }
    return Setting(**{**values, **changes})  # type: ignore[arg-type]


def header(site: str, base: bytes = BASE, tag: bytes = b"", round_number: int = 1) -> Message:
    root = hashlib.sha256(site.encode() + tag).digest()
    return signed(site, UpdateHeader(TASK, round_number, 0, site, base, CODEC, 100, root, 7))


@dataclass
class Site:
    """One site: its machine, and what its disk holds."""

    setting: Setting
    state: State
    own: list[Message] = field(default_factory=list)
    updates: dict[bytes, Message] = field(default_factory=dict)
    scores: bytes | None = None
    others: dict[Message, None] = field(default_factory=dict)
    up: bool = True
    life: int = 0
    certified: Certified | None = None
    failed: Fail | None = None
    absorbed: bool = False
    trained: int = 0
    asked_for_help: bool = False


class Bus:
    """All sites of one schedule.

    Attributes:
        losses: (judge, label) -> nano-loss; label is base, candidate, or a left-out site.
    """

    def __init__(
        self,
        seed: int,
        settings: list[Setting],
        *,
        loss: float = 0.0,
        crashes: int = 0,
        train_seconds: Callable[[str, Random], float] = lambda _site, random: random.uniform(1, 10),
        losses: Callable[[str, str, Random], int] | None = None,
        abstain: frozenset[str] = frozenset(),
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loss = loss
        self.train_seconds = train_seconds
        self.losses = losses or self._improving
        self.abstain = abstain
        self.now = 0.0
        self.sequence = 0
        self.heap: list[tuple[float, int, Callable[[], object]]] = []
        self.slots: dict[tuple[object, ...], Signable] = {}
        self.accused: list[Accuse] = []
        filed = {s.site: Filed(self.random.randint(1, 20), bytes(32)) for s in settings}
        self.chain = Docket(
            20, filed=filed, verdicts=tuple(Verdict(f.block, s, 1, False, b"") for s, f in filed.items())
        )
        self.sites = {s.site: Site(s, machine.resume(s, [])) for s in settings}
        self.crash_before_disk: Callable[[Site, Action], bool] = lambda _site, _action: False
        self.crash_after_disk: Callable[[Site, Action], bool] = lambda _site, _action: False
        for site in self.sites.values():
            self.at(self.random.uniform(0, 3), lambda site=site: self.feed(site, Begin()))
            self.at(self.random.uniform(0, 5), lambda site=site: self.gossip(site))
        for _ in range(crashes):
            self.at(
                self.random.uniform(0, HEAL_SECONDS), lambda: self.crash(self.random.choice(list(self.sites.values())))
            )

    def _improving(self, judge: str, label: str, random: Random) -> int:
        # Not reproducible on purpose: a second evaluation gives other numbers, so committed scores must come from disk.
        noise = random.randint(0, 1000)
        return {"base": 2_000_000, "candidate": 1_000_000}.get(label, 1_200_000) + noise

    def at(self, delay: float, action: Callable[[], object]) -> None:
        self.sequence += 1
        heapq.heappush(self.heap, (self.now + delay, self.sequence, action))

    def run(self) -> None:
        while self.heap and self.now < END_SECONDS and not self.is_over():
            self.now, _, action = heapq.heappop(self.heap)
            action()

    def is_over(self) -> bool:
        return all(site.certified or site.failed for site in self.sites.values())

    def crash(self, site: Site) -> None:
        site.up, site.life = False, site.life + 1
        self.at(self.random.uniform(0, 20), lambda: self.restart(site))

    def restart(self, site: Site) -> None:
        if site.up:
            return
        site.up, site.others, site.certified = True, {}, site.certified
        site.updates = {d: m for d, m in site.updates.items() if m.site == site.setting.site}
        site.state = machine.resume(site.setting, site.own)
        for message in site.updates.values():
            self.feed(site, UpdateArrived(message))
        self.feed(site, Begin())

    def gossip(self, site: Site) -> None:
        if site.up:
            for message in [*site.own, *site.others]:
                self.broadcast(site, message)
        self.at(5.0, lambda: self.gossip(site))

    def broadcast(self, site: Site, message: Message) -> None:
        for other in self.sites.values():
            if other is site or message in other.others:
                continue
            if self.now < HEAL_SECONDS and self.random.random() < self.loss:
                continue
            self.at(self.random.expovariate(2), lambda other=other: self.hear(other, message))

    def hear(self, site: Site, message: Message) -> None:
        if not site.up or message in site.others or message.site == site.setting.site:
            return
        site.others[message] = None
        self.feed(site, Heard(message))
        if isinstance(message.body, UpdateHeader):
            life = site.life
            self.at(self.random.uniform(0, 4), lambda: life == site.life and self.arrive(site, message))

    def arrive(self, site: Site, message: Message) -> None:
        site.updates[message.digest] = message
        self.feed(site, UpdateArrived(message))

    def feed(self, site: Site, event: Event) -> None:
        if not site.up:
            return
        site.state, actions = machine.step(site.state, event)
        for action in actions:
            if site.up:
                if self.crash_before_disk(site, action):
                    self.crash(site)
                    return
                self.act(site, action)

    def later(self, site: Site, delay: float, event: Event) -> None:
        life = site.life
        self.at(delay, lambda: life == site.life and self.feed(site, event))

    def act(self, site: Site, action: Action) -> None:
        name = site.setting.site
        match action:
            case Train():
                if not site.absorbed:
                    site.trained += 1
                    self.later(site, self.train_seconds(name, self.random), Trained(7))
            case Encode():
                message = header(name, site.setting.base, str(site.trained).encode())
                site.updates[message.digest] = message
                self.say(site, message)
                self.feed(site, UpdateArrived(message))
            case Absorb():
                site.absorbed = True
            case Send(body, attachment):
                self.say(site, signed(name, body, attachment))
            case SetTimer(timer):
                seconds = DEADLINE_SECONDS if isinstance(timer, Deadline) else 2 + timer.view
                self.later(site, seconds, Elapsed(timer))
            case Fetch(digest):
                self.fetch(site, digest, site.life)
            case Merge(selected):
                joined = site.setting.base + b"".join(digest for _, digest in sorted(selected.items()))
                self.later(site, self.random.uniform(0, 2), Merged(hashlib.sha256(joined).digest()))
            case Weigh(accepted, height):
                weighed = Weighed(gram(site.setting.ledger.stakes, accepted), self.chain.until(height))
                self.later(site, self.random.uniform(0, 2), weighed)
            case Evaluate(sites):
                self.later(site, self.random.uniform(0, 5), Evaluated(self.evaluate(site, sites)))
            case KeepScores(scores):
                site.scores = scores
            case Accuse():
                self.accused.append(action)
            case Certified():
                books = [other.certified.verdict.book for other in self.sites.values() if other.certified]
                assert all(book == action.verdict.book for book in books), "sites have other books"
                assert site.certified is None or site.certified.verdict.result == action.verdict.result
                site.certified = action
            case Fail():
                site.failed = action
            case CatchUp():
                site.asked_for_help = True  # the others are ahead; here it goes on alone all the same

    def evaluate(self, site: Site, sites: tuple[str, ...]) -> Scores | None:
        name = site.setting.site
        if site.scores is not None:
            return Scores.decode(site.scores, sites) if site.scores != ABSTENTION else None
        if name in self.abstain:
            return None
        losses = {label: self.losses(name, label, self.random) for label in ("base", "candidate", *sites)}
        height = self.random.randint(0, self.chain.height)  # read at different times
        return Scores(losses["base"], losses["candidate"], {other: losses[other] for other in sites}, height)

    def fetch(self, site: Site, digest: bytes, life: int) -> None:
        if not site.up or life != site.life or digest in site.updates:
            return
        holder = next((s for s in self.sites.values() if s.up and digest in s.updates), None)
        if holder is not None:
            self.arrive(site, holder.updates[digest])
        else:
            self.at(2.0, lambda: self.fetch(site, digest, life))

    def say(self, site: Site, message: Message) -> None:
        name = site.setting.site
        mine = (name, *slot(message.body))
        assert self.slots.setdefault(mine, message.body) == message.body, f"{name} signed twice for {mine[1:]}"
        if message not in site.own:
            site.own.append(message)  # stored before it is sent
        if self.crash_after_disk(site, Send(message.body)):
            self.crash(site)
            return
        self.broadcast(site, message)
        self.feed(site, Heard(message))
