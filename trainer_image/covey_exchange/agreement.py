"""Tendermint consensus as a pure state machine (Buchman, Kwon, Milosevic 2018, arXiv:1807.04938, algorithm 1).

One instance decides one 32-byte value for one (task, round, step): step 0 which updates count, step 1 which scores
count. A value is the keccak256 of bytes that the shell knows; the shell alone says whether it is valid. Votes weigh by
stake, a quorum is more than 2/3 of it, and the proposer rotates round robin over the sorted addresses.

The machine does no I/O and has no clock: timers, storage and network are actions and events. Its own messages leave as
`Sign` actions and come back as `Received` events once the shell has signed and stored them, so the whole durable state
of a site is the list of messages that it signed: `resume` rebuilds stage, view and lock from them.

Names differ from the paper where Covey needs the word: a Tendermint round is a `view`, because a round is a training
round here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from covey_chain.types import Proposal, Vote

from covey_exchange.agreement_types import (
    NIL,
    PRECOMMIT,
    PREVOTE,
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
    Stage,
    Start,
    Timeout,
)

MAX_VIEWS_AHEAD = 1000  # bounds the memory that a lying site can take; no honest site runs that far ahead in one round

# A quorum that one site saw must be provable to all, so a liar's further votes for a slot count as well (each for its
# own value); this bounds them. Tendermint's gossip meets the same case with its "peer claims a 2/3 majority" message.
MAX_MESSAGES_PER_SLOT = 16

_Slot = tuple[int, int]  # view and kind; kind 0 is the proposal


@dataclass(frozen=True)
class Ballots:
    """What was heard for one slot. The sums are kept beside it, so that no rule has to add up stake again.

    Attributes:
        by_site: one message for each site, or more if it lies.
        weight: stake that spoke at all.
        by_value: stake behind each value; a site counts once for a value, however often it spoke.
    """

    by_site: dict[str, tuple[Received, ...]] = field(default_factory=dict)
    weight: int = 0
    by_value: dict[bytes, int] = field(default_factory=dict)

    def plus(self, received: Received, weight: int) -> Ballots:
        """With one message more, whose site has this stake."""
        site, value = received.message.site, received.message.value
        held = self.by_site.get(site, ())
        already = any(known.message.value == value for known in held)
        return Ballots(
            {**self.by_site, site: (*held, received)},
            self.weight if held else self.weight + weight,
            self.by_value if already else {**self.by_value, value: self.by_value.get(value, 0) + weight},
        )


_NOTHING = Ballots()


@dataclass
class State:
    """One site's view of one instance. `step` never changes the state it is given."""

    instance: Instance
    started: bool = False
    view: int = 0
    stage: Stage = Stage.PROPOSE
    locked_value: bytes = NIL
    locked_view: int = -1
    valid_value: bytes = NIL
    valid_view: int = -1
    candidate: bytes = NIL
    certificate: Certificate | None = None
    judged: Mapping[bytes, bool] = field(default_factory=dict)
    asked: frozenset[bytes] = frozenset()
    messages: Mapping[_Slot, Ballots] = field(default_factory=dict)
    timers: frozenset[tuple[Stage, int]] = frozenset()

    def copy(self) -> State:
        """A copy that can be changed: all that it holds is replaced, never changed, so nothing else is copied."""
        twin = object.__new__(State)
        vars(twin).update(vars(self))
        return twin

    def heard(self, view: int, kind: int) -> Ballots:
        """All messages for one slot."""
        return self.messages.get((view, kind), _NOTHING)

    def held(self, view: int, kind: int, site: str) -> tuple[Received, ...]:
        """What a site signed for one slot: one message, or more if it lies."""
        return self.heard(view, kind).by_site.get(site, ())

    def hold(self, received: Received) -> None:
        """Add a message to those held."""
        message = received.message
        slot = (message.view, _kind(message))
        ballots = self.messages.get(slot, _NOTHING).plus(received, self.instance.weights[message.site])
        self.messages = {**self.messages, slot: ballots}


def _kind(message: Proposal | Vote) -> int:
    return message.kind if isinstance(message, Vote) else 0


def resume(instance: Instance, own: Iterable[Received]) -> State:
    """The state of a site that comes back after a crash, from every message that it has signed in this instance.

    A non-nil precommit is exactly what a lock leaves behind, and a vote or proposal says how far the site had got, so
    nothing else has to be stored for safety. Follow with the stored messages of others and with `Start`.
    """
    state = State(instance)
    for received in own:
        message = received.message
        if message.site != instance.site:
            raise ValueError("resume takes only messages that this site has signed")
        state.hold(received)
        stage = Stage(_kind(message))
        if (message.view, stage) > (state.view, state.stage):
            state.view, state.stage = message.view, stage
        if stage == Stage.PRECOMMIT and message.value != NIL and message.view > state.locked_view:
            state.locked_value = state.valid_value = message.value
            state.locked_view = state.valid_view = message.view
    return state


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """Advance one site by one event.

    Returns:
        The new state and what the shell has to do, in this order.
    """
    if isinstance(event, Received):
        message = event.message
        if any(known.message == message for known in state.held(message.view, _kind(message), message.site)):
            return state, []  # gossip repeats itself
    run = _Run(state.copy())
    run.take(event)
    while run.state.certificate is None and run.advance(event):
        pass
    return run.state, run.actions


class _Run:
    """One call of `step`; the comments give the lines of algorithm 1."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.instance = state.instance
        self.actions: list[Action] = []

    def take(self, event: Event) -> None:
        state = self.state
        match event:
            case Start():
                if not state.started:
                    state.started = True
                    self._schedule(Stage.PROPOSE)
            case Candidate(value):
                state.candidate = value
                state.judged = {**state.judged, value: True}
            case Judged(value, valid):
                state.judged = {**state.judged, value: valid}
            case Received():
                self._receive(event)
            case Timeout(stage, view):
                if view == state.view and state.certificate is None:
                    self._time_out(stage)

    def advance(self, event: Event) -> bool:
        """Fire the first rule that applies; False when none does.

        A message can bring a decision, or take us along, only in its own view; anything else may do so in any view.
        """
        views = {event.message.view} if isinstance(event, Received) else {view for view, _ in self.state.messages}
        return self._decide(views) or (self.state.started and (self._skip(views) or self._vote()))

    def _receive(self, received: Received) -> None:
        message = received.message
        instance = self.instance
        if (message.task_id, message.round, message.step) != (instance.task_id, instance.round, instance.step):
            raise ValueError("message of another instance")
        if message.site not in instance.weights or message.view > self.state.view + MAX_VIEWS_AHEAD:
            return
        held = self.state.held(message.view, _kind(message), message.site)
        if len(held) == 1 and held[0].message != message:
            self.actions.append(Equivocation(held[0], received))
        if len(held) >= MAX_MESSAGES_PER_SLOT:
            return
        self.state.hold(received)
        value = message.value
        if value != NIL and value not in self.state.judged and value not in self.state.asked:
            self.state.asked |= {value}
            self.actions.append(Judge(value))

    def _time_out(self, stage: Stage) -> None:
        if stage == Stage.PRECOMMIT:  # 65
            self._enter(self.state.view + 1)
        elif stage == self.state.stage == Stage.PROPOSE:  # 57
            self._send_vote(PREVOTE, NIL)
        elif stage == self.state.stage == Stage.PREVOTE:  # 61
            self._send_vote(PRECOMMIT, NIL)

    def _decide(self, views: Iterable[int]) -> bool:  # 49
        for view in sorted(views):
            value = self._agreed(view, PRECOMMIT)
            if value is not None:
                by_site = sorted(self.state.heard(view, PRECOMMIT).by_site.items())
                votes = tuple(vote for _, held in by_site for vote in held if vote.message.value == value)
                self.state.certificate = Certificate(value, view, votes)
                self.actions.append(self.state.certificate)
                return True
        return False

    def _skip(self, views: Iterable[int]) -> bool:  # 55
        for view in sorted((view for view in views if view > self.state.view), reverse=True):
            sites = {site for kind in (0, PREVOTE, PRECOMMIT) for site in self.state.heard(view, kind).by_site}
            if self.instance.has_honest(sum(self.instance.weights[site] for site in sites)):
                self._enter(view)
                return True
        return False

    def _vote(self) -> bool:
        if self.state.stage == Stage.PROPOSE:
            return self._propose() or self._answer_proposal()
        return self._lock() or self._answer_prevotes() or self._wait_for_precommits()

    def _propose(self) -> bool:  # 14-19
        state = self.state
        site = self.instance.site
        if self.instance.proposer(state.view) != site or state.held(state.view, 0, site):
            return False
        value = state.valid_value if state.valid_value != NIL else state.candidate
        if not state.judged.get(value, False):  # no candidate yet; or locked in an earlier life, the bytes not here yet
            return False
        i = self.instance
        proposal = Proposal(i.task_id, i.round, i.step, state.view, state.valid_view, value, site)
        state.hold(Received(proposal))  # at once: the slot is taken, whatever comes back from the shell
        self.actions.append(Sign(proposal))
        return True

    def _answer_proposal(self) -> bool:  # 22, 28
        state = self.state
        held = state.held(state.view, 0, self.instance.proposer(state.view))
        if not held or not isinstance(held[0].message, Proposal):
            return False
        value, valid_view = held[0].message.value, held[0].message.valid_view
        if value not in state.judged:
            return False
        if valid_view >= 0:
            support = state.heard(valid_view, PREVOTE).by_value.get(value, 0)
            if valid_view >= state.view or not self.instance.is_quorum(support):
                return False
        agrees = state.locked_view <= valid_view or state.locked_value == value
        self._send_vote(PREVOTE, value if state.judged[value] and agrees else NIL)
        return True

    def _lock(self) -> bool:  # 36
        state = self.state
        if state.valid_view == state.view:
            return False
        value = self._agreed(state.view, PREVOTE)
        if value is None:
            return False
        state.valid_value, state.valid_view = value, state.view
        if state.stage == Stage.PREVOTE:
            state.locked_value, state.locked_view = value, state.view
            self._send_vote(PRECOMMIT, value)
        return True

    def _answer_prevotes(self) -> bool:  # 34, 44
        state = self.state
        if state.stage != Stage.PREVOTE:
            return False
        prevotes = state.heard(state.view, PREVOTE)
        if self.instance.is_quorum(prevotes.by_value.get(NIL, 0)):
            self._send_vote(PRECOMMIT, NIL)
            return True
        return self.instance.is_quorum(prevotes.weight) and self._schedule(Stage.PREVOTE)

    def _wait_for_precommits(self) -> bool:  # 47
        heard = self.state.heard(self.state.view, PRECOMMIT)
        return self.instance.is_quorum(heard.weight) and self._schedule(Stage.PRECOMMIT)

    def _enter(self, view: int) -> None:  # 11
        self.state.view, self.state.stage = view, Stage.PROPOSE
        self._schedule(Stage.PROPOSE)

    def _send_vote(self, kind: int, value: bytes) -> None:
        i = self.instance
        self.state.stage = Stage(kind)
        self.actions.append(Sign(Vote(i.task_id, i.round, i.step, self.state.view, kind, value, i.site)))

    def _schedule(self, stage: Stage) -> bool:
        timer = (stage, self.state.view)
        if timer in self.state.timers:
            return False
        self.state.timers |= {timer}
        self.actions.append(Schedule(*timer))
        return True

    def _agreed(self, view: int, kind: int) -> bytes | None:
        """The valid value that a quorum voted for."""
        heard = self.state.heard(view, kind)
        if not self.instance.is_quorum(heard.weight):
            return None
        for value, weight in sorted(heard.by_value.items()):
            if value != NIL and self.instance.is_quorum(weight) and self.state.judged.get(value, False):
                return value
        return None
