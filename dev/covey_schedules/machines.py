"""The machine under test, and broken ones: a simulator is worth something only if it finds what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from covey_chain.types import Proposal, Vote
from covey_exchange import agreement, agreement_state
from covey_exchange.agreement_state import Ballots, State
from covey_exchange.agreement_types import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    Action,
    Enter,
    Epoch,
    Equivocation,
    Event,
    Instance,
    Judged,
    Leave,
    Received,
    Schedule,
    Stage,
)


@dataclass(frozen=True)
class Machine:
    """What a world drives.

    Attributes:
        epoch: makes an Epoch from number, weights and evidence.
        resume: makes a State from instance, our own messages, later epochs and the newest roll call that we signed.
        stores_others: whether the disk holds the messages of others, too, and not only our own.
        keeps_mark: whether a site that has lost its disk still knows which roll call it has answered last.
    """

    name: str
    epoch: Callable[[int, Mapping[str, int], tuple[Received, ...]], Epoch] = Epoch
    resume: Callable[[Instance, Iterable[Received], Iterable[Epoch], int], State] = agreement_state.resume
    step: Callable[[State, Event], tuple[State, list[Action]]] = agreement.step
    stores_others: bool = True
    keeps_mark: bool = True


class _HalfIsEnough(Epoch):
    def is_quorum(self, weight: int) -> bool:
        return 2 * weight > self.total


class _TwoThirdsIsEnough(Epoch):
    def is_quorum(self, weight: int) -> bool:
        return 3 * weight >= 2 * self.total


def _without_locks(state: State, event: Event) -> tuple[State, list[Action]]:
    state, actions = agreement.step(state, event)
    return replace(state, locked_value=NIL, locked_view=-1), actions


def _believing_claims(state: State, event: Event) -> tuple[State, list[Action]]:
    """Takes the proof that a proposal names for granted: adds up its votes as if all had been there."""
    view, before = state.view, state.messages
    held = state.held(view, 0, state.proposer(view))
    if isinstance(event, Received) and isinstance(event.message, Proposal) and event.message.view == view:
        held = (*held, event)
    if not held or not isinstance(held[0].message, Proposal) or not 0 <= held[0].message.valid_view < view:
        return agreement.step(state, event)
    slot = (held[0].message.valid_view, PREVOTE)
    true = before.get(slot, Ballots())
    claimed = replace(true, by_value={**true.by_value, held[0].message.value: state.epoch_of(slot[0]).total})
    state, actions = agreement.step(replace(state, messages={**before, slot: claimed}), event)
    messages = dict(state.messages)
    if messages[slot] is claimed:
        messages[slot] = true
    return replace(state, messages=messages), actions


def _amnesia(instance: Instance, own: Iterable[Received], epochs: Iterable[Epoch], left: int) -> State:
    return agreement_state.resume(instance, (), epochs, left)


def _forgetting_locks(instance: Instance, own: Iterable[Received], epochs: Iterable[Epoch], left: int) -> State:
    state = agreement_state.resume(instance, own, epochs, left)
    return replace(state, locked_value=NIL, locked_view=-1, valid_value=NIL, valid_view=-1)


def _forgetting_calls(instance: Instance, own: Iterable[Received], epochs: Iterable[Epoch], left: int) -> State:
    return agreement_state.resume(instance, own, epochs, 0)


def _staying(state: State, event: Event) -> tuple[State, list[Action]]:
    """Goes on voting after it has answered a roll call."""
    return (state, []) if isinstance(event, Leave) else agreement.step(state, event)


def _without_evidence(state: State, event: Event) -> tuple[State, list[Action]]:
    """Takes the new weights and looks at nobody's locks but its own."""
    own = Enter(replace(event.epoch, evidence=())) if isinstance(event, Enter) else event
    return agreement.step(state, own)


def _believing_everything(state: State, event: Event) -> tuple[State, list[Action]]:
    return agreement.step(state, replace(event, valid=True) if isinstance(event, Judged) else event)


def _patient(state: State, event: Event) -> tuple[State, list[Action]]:
    state, actions = agreement.step(state, event)
    return state, [a for a in actions if not (isinstance(a, Schedule) and a.stage == Stage.PRECOMMIT)]


def _accusing_too_fast(state: State, event: Event) -> tuple[State, list[Action]]:
    """Takes a precommit that differs from the prevote for a lie."""
    found: list[Action] = []
    match event:
        case Received(Vote() as vote) if vote.kind == PRECOMMIT:
            prevotes = state.held(vote.view, PREVOTE, vote.site)
            found = [Equivocation(p, event) for p in prevotes if p.message.value != vote.value]
    state, actions = agreement.step(state, event)
    return state, [*found, *actions]


def _blind(state: State, event: Event) -> tuple[State, list[Action]]:
    state, actions = agreement.step(state, event)
    return state, [a for a in actions if not isinstance(a, Equivocation)]


SOUND = Machine("sound")

# Name -> the machine, and the promise that it breaks.
BROKEN: dict[str, tuple[Machine, str]] = {
    machine.name: (machine, promise)
    for machine, promise in (
        (Machine("half-is-enough", epoch=_HalfIsEnough), "two certificates"),
        (Machine("two-thirds-is-enough", epoch=_TwoThirdsIsEnough), "a certificate that proves nothing"),
        (Machine("without-locks", step=_without_locks), "two certificates"),
        (Machine("believing-claims", step=_believing_claims), "two certificates"),
        (Machine("amnesia", resume=_amnesia), "an honest site signed twice for one slot"),
        (Machine("talking-after-a-loss", keeps_mark=False), "an honest site signed twice for one slot"),
        (Machine("forgetting-locks", resume=_forgetting_locks), "two certificates"),
        (Machine("forgetting-calls", resume=_forgetting_calls), "a site signed in an epoch that it had left"),
        (Machine("staying", step=_staying), "a site signed in an epoch that it had left"),
        (Machine("without-evidence", step=_without_evidence), "two certificates"),
        (Machine("believing-everything", step=_believing_everything), "a certificate for an invalid value"),
        (Machine("patient", step=_patient), "no progress"),
        (Machine("accusing-too-fast", step=_accusing_too_fast), "an honest site was accused"),
        (Machine("blind", step=_blind), "a site saw two messages for one slot and kept quiet"),
    )
}
