"""What one site knows about one agreement, and how it comes back after a crash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from covey_chain.types import Proposal, Vote

from covey_exchange.agreement_types import (
    EPOCH_VIEWS,
    NIL,
    PREVOTE,
    Certificate,
    Epoch,
    Instance,
    Received,
    Stage,
)

Slot = tuple[int, int]  # view and kind; kind 0 is the proposal


def kind_of(message: Proposal | Vote) -> int:
    """The kind of a vote; 0 for a proposal."""
    return message.kind if isinstance(message, Vote) else 0


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
    """One site's view of one instance. `agreement.step` never changes the state it is given.

    Attributes:
        left: the epoch of the newest roll call that we have signed: nothing is signed in the epochs before it.
        later: epochs after the first one, in order.
        early: messages in epochs that we do not know yet.
    """

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
    messages: Mapping[Slot, Ballots] = field(default_factory=dict)
    timers: frozenset[tuple[Stage, int]] = frozenset()
    left: int = 0
    later: tuple[Epoch, ...] = ()
    early: tuple[Received, ...] = ()

    def copy(self) -> State:
        """A copy that can be changed: all that it holds is replaced, never changed, so nothing else is copied."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    # --- epochs -----------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The newest one."""
        return self.later[-1] if self.later else self.instance.everybody

    def knows(self, view: int) -> bool:
        """Whether the epoch of a view has begun for us."""
        return view < (len(self.later) + 1) * EPOCH_VIEWS

    def epoch_of(self, view: int) -> Epoch:
        """Whose stake counts in a view."""
        number = view // EPOCH_VIEWS
        return self.later[number - 1] if number else self.instance.everybody

    def proposer(self, view: int) -> str:
        """The site that proposes in a view."""
        return self.epoch_of(view).proposer(self.instance.round, view)

    @property
    def may_sign(self) -> bool:
        """Whether our votes in this view count, and no roll call forbids them."""
        return self.view >= self.left * EPOCH_VIEWS and self.instance.site in self.epoch_of(self.view).weights

    def begin(self, epoch: Epoch) -> None:
        """Enter an epoch, locked on what the latest quorum of prevotes that anybody has shown is for.

        Raises:
            ValueError: it is not the next one.
        """
        if epoch.number != len(self.later) + 1:
            raise ValueError(f"epoch {epoch.number} does not follow epoch {len(self.later)}")
        self.later = (*self.later, epoch)
        quorum = self._latest_quorum(epoch.evidence, epoch.first_view)
        for received in quorum:  # whatever limits there are: all sites must be able to point to it
            if received.message not in (known.message for known in self._held_for(received)):
                self.hold(received)
        if quorum:
            value, view = quorum[0].message.value, quorum[0].message.view
            if view > self.locked_view:
                self.locked_value, self.locked_view = value, view
            if view > self.valid_view:
                self.valid_value, self.valid_view = value, view
        if epoch.first_view > self.view:
            self.view, self.stage = epoch.first_view, Stage.PROPOSE

    def _latest_quorum(self, evidence: Iterable[Received], before_view: int) -> tuple[Received, ...]:
        found: defaultdict[tuple[int, bytes], dict[str, Received]] = defaultdict(dict)
        i = self.instance
        for received in evidence:
            vote = received.message
            if (vote.task_id, vote.round, vote.step) != (i.task_id, i.round, i.step) or vote.view >= before_view:
                continue
            if kind_of(vote) == PREVOTE and vote.value != NIL and vote.site in self.epoch_of(vote.view).weights:
                found[vote.view, vote.value][vote.site] = received
        for (view, _), votes in sorted(found.items(), reverse=True):
            epoch = self.epoch_of(view)
            if epoch.is_quorum(sum(epoch.weights[site] for site in votes)):
                return tuple(vote for _, vote in sorted(votes.items()))
        return ()

    @property
    def evidence(self) -> tuple[Received, ...]:
        """What we show when the roll is called: the latest quorum of prevotes that we know and whose value is valid."""
        if self.valid_view < 0:
            return ()
        by_site = sorted(self.heard(self.valid_view, PREVOTE).by_site.items())
        return tuple(vote for _, held in by_site for vote in held if vote.message.value == self.valid_value)

    # --- messages ---------------------------------------------------------------------------------------------------

    def heard(self, view: int, kind: int) -> Ballots:
        """All messages for one slot."""
        return self.messages.get((view, kind), _NOTHING)

    def held(self, view: int, kind: int, site: str) -> tuple[Received, ...]:
        """What a site signed for one slot: one message, or more if it lies."""
        return self.heard(view, kind).by_site.get(site, ())

    def _held_for(self, received: Received) -> tuple[Received, ...]:
        message = received.message
        return self.held(message.view, kind_of(message), message.site)

    def hold(self, received: Received) -> None:
        """Add a message, by a site whose stake counts, to those held."""
        message = received.message
        slot = (message.view, kind_of(message))
        ballots = self.messages.get(slot, _NOTHING).plus(received, self.epoch_of(message.view).weights[message.site])
        self.messages = {**self.messages, slot: ballots}

    def recall(self, received: Received) -> None:
        """Hold a message that we have signed in an earlier life, and stand where it has left us."""
        message = received.message
        self.hold(received)
        stage = Stage(kind_of(message))
        if (message.view, stage) > (self.view, self.stage):
            self.view, self.stage = message.view, stage
        if stage == Stage.PRECOMMIT and message.value != NIL and message.view > self.locked_view:
            self.locked_value = self.valid_value = message.value
            self.locked_view = self.valid_view = message.view


def resume(instance: Instance, own: Iterable[Received], epochs: Iterable[Epoch] = (), left: int = 0) -> State:
    """The state of a site that comes back after a crash, from every message that it has signed in this instance.

    A non-nil precommit is exactly what a lock leaves behind, and a vote or proposal says how far the site had got, so
    nothing else has to be stored for safety. Follow with the stored messages of others and with `Start`.

    Args:
        instance: which agreement.
        own: signed proposals and votes.
        epochs: all after the first one, in order.
        left: epoch of the newest roll call that we have signed.
    """
    state = State(instance, left=left)
    for epoch in epochs:
        state.begin(epoch)
    for received in own:
        if received.message.site != instance.site:
            raise ValueError("resume takes only messages that this site has signed")
        if state.knows(received.message.view):
            state.recall(received)
        else:  # heard again from others by a site that had lost its disk, before it had read the chain
            state.early = (*state.early, received)
    return state
