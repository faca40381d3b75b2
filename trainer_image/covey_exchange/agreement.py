"""Tendermint consensus as a pure state machine (Buchman, Kwon, Milosevic 2018, arXiv:1807.04938, algorithm 1).

One instance decides one 32-byte value for one (task, round, step): step 0 which updates count, step 1 which scores
count. A value is the keccak256 of bytes that the shell knows; the shell alone says whether it is valid. Votes weigh by
stake, a quorum is more than 2/3 of it, and the proposer rotates round robin over the sorted addresses.

The machine does no I/O and has no clock: timers, storage and network are actions and events. Its own messages leave as
`Sign` actions and come back as `Received` events once the shell has signed and stored them, so the whole durable state
of a site is the list of messages that it signed: `agreement_state.resume` rebuilds stage, view and lock from them.

The set of sites whose stake counts changes only by a roll call on chain, between epochs (ADR 0008): a view belongs to
one epoch, and a quorum in it is counted with the set of that epoch. On entering an epoch all take the latest quorum of
prevotes that anybody has shown as their lock.

Names differ from the paper where Covey needs the word: a Tendermint round is a `view`, because a round is a training
round here.
"""

from __future__ import annotations

from collections.abc import Iterable

from covey_chain.types import Proposal, Vote

from covey_exchange.agreement_state import State, kind_of
from covey_exchange.agreement_types import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    Action,
    Candidate,
    Certificate,
    Enter,
    Epoch,
    Equivocation,
    Event,
    Judge,
    Judged,
    Leave,
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

MAX_EARLY_MESSAGES = 64  # of one site, in epochs that we do not know yet: about twenty views


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """Advance one site by one event.

    Returns:
        The new state and what the shell has to do, in this order.
    """
    if isinstance(event, Received):
        message = event.message
        if any(known.message == message for known in state.held(message.view, kind_of(message), message.site)):
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
                    self._ask(state.valid_value)
            case Candidate(value):
                state.candidate = value
                state.judged = {**state.judged, value: True}
            case Judged(value, valid):
                state.judged = {**state.judged, value: valid}
            case Received():
                self._receive(event)
            case Timeout(stage, view):
                if view == state.view and state.certificate is None and state.may_sign:
                    self._time_out(stage)
            case Leave(epoch):
                state.left = max(state.left, epoch)
            case Enter(epoch):
                self._begin(epoch)

    def advance(self, event: Event) -> bool:
        """Fire the first rule that applies; False when none does.

        A message can bring a decision, or take us along, only in its own view; anything else may do so in any view.
        """
        views = {event.message.view} if isinstance(event, Received) else {view for view, _ in self.state.messages}
        views = {view for view in views if self.state.knows(view)}
        return self._decide(views) or (self.state.started and (self._skip(views) or self._vote()))

    def _receive(self, received: Received) -> None:
        message = received.message
        instance = self.instance
        if (message.task_id, message.round, message.step) != (instance.task_id, instance.round, instance.step):
            raise ValueError("message of another instance")
        state = self.state
        if not state.knows(message.view):
            state.early = _plus_early(state.early, received)
            return
        epoch = state.epoch_of(message.view)
        if message.site not in epoch.weights:
            return
        if message.view > max(state.view, epoch.first_view) + MAX_VIEWS_AHEAD:
            return
        held = state.held(message.view, kind_of(message), message.site)
        if len(held) == 1 and held[0].message != message:
            self.actions.append(Equivocation(held[0], received))
        if len(held) >= MAX_MESSAGES_PER_SLOT:
            return
        state.hold(received)
        self._ask(message.value)

    def _ask(self, value: bytes) -> None:
        if value != NIL and value not in self.state.judged and value not in self.state.asked:
            self.state.asked |= {value}
            self.actions.append(Judge(value))

    def _begin(self, epoch: Epoch) -> None:
        state = self.state
        if epoch.number <= state.epoch.number:
            return
        state.begin(epoch)
        early, state.early = state.early, ()
        for received in early:
            if self._is_own_of_before(received):
                state.recall(received)
            else:
                self._receive(received)
        self._ask(state.valid_value)
        if state.started and state.certificate is None:
            self._schedule(Stage.PROPOSE)

    def _is_own_of_before(self, received: Received) -> bool:
        """Whether we have signed this in an earlier life, in an epoch that we know now, and did not hold it yet."""
        state, message = self.state, received.message
        return (
            message.site == self.instance.site
            and state.knows(message.view)
            and message.site in state.epoch_of(message.view).weights
            and not state.held(message.view, kind_of(message), message.site)
        )

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
            epoch = self.state.epoch_of(view)
            if epoch.has_honest(sum(epoch.weights[site] for site in sites)):
                self._enter(view)
                return True
        return False

    def _vote(self) -> bool:
        if not self.state.may_sign:
            return False
        if self.state.stage == Stage.PROPOSE:
            return self._propose() or self._answer_proposal()
        return self._lock() or self._answer_prevotes() or self._wait_for_precommits()

    def _propose(self) -> bool:  # 14-19
        state = self.state
        site = self.instance.site
        if state.proposer(state.view) != site or state.held(state.view, 0, site):
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
        held = state.held(state.view, 0, state.proposer(state.view))
        if not held or not isinstance(held[0].message, Proposal):
            return False
        value, valid_view = held[0].message.value, held[0].message.valid_view
        if value not in state.judged:
            return False
        if valid_view >= 0:
            support = state.heard(valid_view, PREVOTE).by_value.get(value, 0)
            if valid_view >= state.view or not state.epoch_of(valid_view).is_quorum(support):
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
        epoch = state.epoch_of(state.view)
        if epoch.is_quorum(prevotes.by_value.get(NIL, 0)):
            self._send_vote(PRECOMMIT, NIL)
            return True
        return epoch.is_quorum(prevotes.weight) and self._schedule(Stage.PREVOTE)

    def _wait_for_precommits(self) -> bool:  # 47
        heard = self.state.heard(self.state.view, PRECOMMIT)
        return self.state.epoch_of(self.state.view).is_quorum(heard.weight) and self._schedule(Stage.PRECOMMIT)

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
        epoch = self.state.epoch_of(view)
        if not epoch.is_quorum(heard.weight):
            return None
        for value, weight in sorted(heard.by_value.items()):
            if value != NIL and epoch.is_quorum(weight) and self.state.judged.get(value, False):
                return value
        return None


def _plus_early(early: tuple[Received, ...], received: Received) -> tuple[Received, ...]:
    message = received.message
    of_site = [known.message for known in early if known.message.site == message.site]
    if message in of_site or len(of_site) >= MAX_EARLY_MESSAGES:
        return early
    return (*early, received)
