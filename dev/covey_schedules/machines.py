"""The machine under test, and broken ones: a simulator is worth something only if it finds what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from covey_chain.types import Proposal, Vote
from covey_exchange import agreement
from covey_exchange.agreement import Ballots, State
from covey_exchange.agreement_types import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    Action,
    Equivocation,
    Event,
    Instance,
    Judged,
    Received,
    Schedule,
    Stage,
)


@dataclass(frozen=True)
class Machine:
    """What a world drives.

    Attributes:
        instance: makes an Instance from task, round, step, site and weights.
        stores_others: whether the disk holds the messages of others, too, and not only our own.
    """

    name: str
    instance: Callable[[bytes, int, int, str, Mapping[str, int]], Instance] = Instance
    resume: Callable[[Instance, Iterable[Received]], State] = agreement.resume
    step: Callable[[State, Event], tuple[State, list[Action]]] = agreement.step
    stores_others: bool = True


class _HalfIsEnough(Instance):
    def is_quorum(self, weight: int) -> bool:
        return 2 * weight > sum(self.weights.values())


class _TwoThirdsIsEnough(Instance):
    def is_quorum(self, weight: int) -> bool:
        return 3 * weight >= 2 * sum(self.weights.values())


def _without_locks(state: State, event: Event) -> tuple[State, list[Action]]:
    state, actions = agreement.step(state, event)
    return replace(state, locked_value=NIL, locked_view=-1), actions


def _believing_claims(state: State, event: Event) -> tuple[State, list[Action]]:
    """Takes the proof that a proposal names for granted: adds up its votes as if all had been there."""
    view, before = state.view, state.messages
    held = state.held(view, 0, state.instance.proposer(view))
    if isinstance(event, Received) and isinstance(event.message, Proposal) and event.message.view == view:
        held = (*held, event)
    if not held or not isinstance(held[0].message, Proposal) or not 0 <= held[0].message.valid_view < view:
        return agreement.step(state, event)
    slot = (held[0].message.valid_view, PREVOTE)
    true = before.get(slot, Ballots())
    claimed = replace(true, by_value={**true.by_value, held[0].message.value: sum(state.instance.weights.values())})
    state, actions = agreement.step(replace(state, messages={**before, slot: claimed}), event)
    messages = dict(state.messages)
    if messages[slot] is claimed:
        messages[slot] = true
    return replace(state, messages=messages), actions


def _amnesia(instance: Instance, own: Iterable[Received]) -> State:
    return State(instance)


def _forgetting_locks(instance: Instance, own: Iterable[Received]) -> State:
    state = agreement.resume(instance, own)
    return replace(state, locked_value=NIL, locked_view=-1, valid_value=NIL, valid_view=-1)


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
        (Machine("half-is-enough", instance=_HalfIsEnough), "two certificates"),
        (Machine("two-thirds-is-enough", instance=_TwoThirdsIsEnough), "a certificate that proves nothing"),
        (Machine("without-locks", step=_without_locks), "two certificates"),
        (Machine("believing-claims", step=_believing_claims), "two certificates"),
        (Machine("amnesia", resume=_amnesia), "an honest site signed twice for one slot"),
        (Machine("forgetting-locks", resume=_forgetting_locks), "two certificates"),
        (Machine("believing-everything", step=_believing_everything), "a certificate for an invalid value"),
        (Machine("patient", step=_patient), "no progress"),
        (Machine("accusing-too-fast", step=_accusing_too_fast), "an honest site was accused"),
        (Machine("blind", step=_blind), "a site saw two messages for one slot and kept quiet"),
    )
}
