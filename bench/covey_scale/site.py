"""One site: the production machine of a round, and a shell in virtual time in place of `covey_validator.runner`.

The machine is only ever resumed and stepped. What it asks for takes the time that was measured for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from random import Random

from covey_chain.signing import struct_hash
from covey_chain.types import Proposal, Signable, UpdateHeader
from covey_exchange.agreement_types import EPOCH_VIEWS
from covey_exchange.envelope import Message
from covey_exchange.messages import Envelope
from covey_validator import round as machine
from covey_validator.round_types import (
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
    Merge,
    Merged,
    Phase,
    Send,
    SetTimer,
    Setting,
    Train,
    Trained,
    UpdateArrived,
    ViewTimer,
)
from covey_validator.runner import REVEAL_SECONDS_MAX, VIEW_SECONDS, VIEW_SECONDS_MORE
from covey_validator.scoring import NANO, Scores

from covey_scale.costs import Costs, Load, message_bytes, offer_bytes, segment_bytes, want_bytes
from covey_scale.gossip import Gossip, Parcel
from covey_scale.lines import Host
from covey_scale.node import Core
from covey_scale.ring import Blob, Ring

DEADLINE_SECONDS = 600.0  # `rounds.deadline` of a task, by default
TASK, BASE, CODEC = bytes(31) + b"\x01", b"\xba" * 32, b"\xc0" * 32
Timer = Callable[[], float]


class Unexpected(RuntimeError):
    """The machine asked for something that cannot be in a round in which nobody fails."""


def signed(site: str, body: Signable, attachment: bytes = b"") -> Message:
    """A message as the roster would let it in; that its signature costs time is charged elsewhere."""
    return Message(site, Envelope(body, bytes(65), attachment), struct_hash(body))


@dataclass
class Site:
    """A member.

    Attributes:
        name: owner address.
        loop: the core of the event loop: messages, segments, the machine.
        pool: the core of its threads: codec, merge, scores.
        entered: when it came to each phase, in seconds.
        proposals: how many it has made.
        slowest_update_seconds: between hearing of an update and having it.
    """

    name: str
    host: Host
    costs: Costs
    load: Load
    timer: Timer
    relays: InitVar[int | None]
    random: InitVar[Random]
    setting: Setting | None = None
    entered: dict[Phase, float] = field(default_factory=dict)
    encoded_at: float = 0.0
    updates: int = 0
    updates_at: float = 0.0
    ended_at: float | None = None
    proposals: int = 0
    step_seconds: float = 0.0
    certified: Certified | None = None
    slowest_update_seconds: float = 0.0
    _announced: dict[bytes, float] = field(default_factory=dict)

    def __post_init__(self, relays: int | None, random: Random) -> None:
        self.clock = self.host.clock
        self.loop, self.pool = Core(self.clock), Core(self.clock)
        self.gossip = Gossip(self.loop, self.costs, self.hear, relays, random)
        self.ring = Ring(self.name, self.host, self.loop, self.costs, self.gossip.admit, self.arrived)

    def begin(self) -> None:
        """Training is over."""
        if self.setting is None:
            self.pool.run(self.load.parameters * self.costs.encode, self._offer)
            return
        self._state = machine.resume(self.setting, [])
        self.feed(Begin())

    def hear(self, message: Message) -> None:
        """A new message of another site."""
        if isinstance(message.body, UpdateHeader):
            self._announced[message.digest] = self.clock.now
        if self.setting is not None:
            self.feed(Heard(message))

    def arrived(self, blob: Blob) -> None:
        """An update is here whole."""
        message = blob.header.message
        since = self._announced.get(message.digest, self.clock.now)
        self.slowest_update_seconds = max(self.slowest_update_seconds, self.clock.now - since)
        self.pool.run(self.load.parameters * self.costs.decode, self._have, message)

    def _have(self, message: Message) -> None:
        self.updates += 1
        self.updates_at = self.clock.now
        if self.setting is not None:
            self.feed(UpdateArrived(message))

    def feed(self, event: Event) -> None:
        """Let the machine go one step, and do what it asks for."""
        began = self.timer()
        self._state, actions = machine.step(self._state, event)
        seconds = self.timer() - began
        self.step_seconds += seconds
        self.loop.spend(seconds)
        phases = list(Phase)
        for phase in phases[: phases.index(self._state.phase) + 1]:
            self.entered.setdefault(phase, self.clock.now)
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Train():
                self.clock.after(0.0, self.feed, Trained(1000))
            case Encode():
                self.pool.run(self.load.parameters * self.costs.encode, self._offer)
            case Send(body, attachment):
                self.proposals += isinstance(body, Proposal)
                self._say(signed(self.name, body, attachment))
            case SetTimer(timer):
                self.clock.after(_seconds(timer), self.feed, Elapsed(timer))
            case Merge(selected):
                named = hashlib.sha256(b"".join(digest for _, digest in sorted(selected.items()))).digest()
                seconds = self.load.merge_seconds(self.costs, len(selected))
                self.pool.run(seconds, self.feed, Merged(named))
            case Evaluate(sites):
                seconds = self.load.evaluate_seconds(self.costs, len(sites))
                self.pool.run(seconds, self.feed, Evaluated(self._scores(sites)))
            case Certified():
                self.certified = action
                self.ended_at = self.clock.now
            case Fetch():
                pass  # the ring will bring it
            case CatchUp() | Fail():
                raise Unexpected(f"{self.name} at {self.clock.now:.1f} s: {action}")

    def _offer(self) -> None:
        header = UpdateHeader(
            TASK, 1, 0, self.name, BASE, CODEC, self.load.update_bytes, hashlib.sha256(self.name.encode()).digest(), 1
        )
        message = signed(self.name, header)
        envelope, length = message.envelope, self.load.update_bytes
        parcel = Parcel(message, message_bytes(envelope))
        frames = tuple(segment_bytes(length))
        blob = Blob(self.name, parcel, offer_bytes(envelope, length), want_bytes(length), frames)
        self.encoded_at = self.clock.now
        self.ring.offer(blob)
        if self.setting is not None:
            self._say(message, blob.header)
            self._have(message)

    def _say(self, message: Message, parcel: Parcel | None = None) -> None:
        self.gossip.say(parcel or Parcel(message, message_bytes(message.envelope)))
        self.feed(Heard(message))

    def _scores(self, sites: tuple[str, ...]) -> Scores:
        """An update that helps, as every site judges it: what is decided does not change what it takes to decide."""
        return Scores(NANO, NANO * 9 // 10, dict.fromkeys(sites, NANO * 91 // 100))


def _seconds(timer: Deadline | ViewTimer) -> float:
    if isinstance(timer, ViewTimer):
        return VIEW_SECONDS + VIEW_SECONDS_MORE * (timer.view % EPOCH_VIEWS)
    return min(DEADLINE_SECONDS, REVEAL_SECONDS_MAX) if timer is Deadline.REVEALS else DEADLINE_SECONDS
