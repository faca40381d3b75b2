"""What lying sites do. They work together, and they know all that honest sites have in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement_state import State
from covey_exchange.agreement_types import EPOCH_VIEWS, NIL, PRECOMMIT, PREVOTE, Instance

FAR_VIEWS = (1, 2, 5, 50, 900, 5000, EPOCH_VIEWS)  # the last ones are further than a machine listens


class Victim(Protocol):
    """An honest site, as liars see it."""

    name: str
    state: State


@dataclass(frozen=True)
class Plot:
    """What liars tell the two halves of the honest sites in one view, and the proof that they claim for it."""

    one: bytes
    other: bytes
    half: frozenset[str]
    valid_view: int

    def value(self, victim: Victim) -> bytes:
        """What this one hears."""
        return self.one if victim.name in self.half else self.other


class Stage(Protocol):
    """What the world lets liars do."""

    random: Random
    instance: Instance
    values: Sequence[bytes]
    bad_values: Sequence[bytes]

    @property
    def victims(self) -> Sequence[Victim]:
        """All honest sites."""
        ...

    def proposer(self, view: int) -> str:
        """Whose turn it is in a view, as far as anybody can know."""
        ...

    def plot(self, view: int) -> Plot:
        """What liars have agreed to do in a view."""
        ...

    def tell(self, liar: str, victim: Victim, message: Proposal | Vote) -> None:
        """Send a message, signed by the liar in whatever name it says."""
        ...

    def repeat(self, liar: str, victim: Victim) -> None:
        """Send something again that was said before, by anybody."""
        ...


Tactic = Callable[[Stage, str, int], None]


def _vote(stage: Stage, liar: str, view: int, kind: int, value: bytes) -> Vote:
    i = stage.instance
    return Vote(i.task_id, i.round, i.step, view, kind, value, liar)


def _proposal(stage: Stage, liar: str, view: int, value: bytes, valid_view: int = -1) -> Proposal:
    i = stage.instance
    return Proposal(i.task_id, i.round, i.step, view, valid_view, value, liar)


def _proposed(stage: Stage, victim: Victim, view: int) -> bytes:
    """What the victim heard proposed in a view."""
    held = victim.state.held(view, 0, stage.proposer(view))
    return held[0].message.value if held else NIL


def _say_all(stage: Stage, liar: str, victim: Victim, view: int, value: bytes, valid_view: int = -1) -> None:
    if stage.proposer(view) == liar and value != NIL:
        stage.tell(liar, victim, _proposal(stage, liar, view, value, valid_view))
    for kind in (PREVOTE, PRECOMMIT):
        stage.tell(liar, victim, _vote(stage, liar, view, kind, value))


def equivocate(stage: Stage, liar: str, view: int) -> None:
    """Tell one half this and the other half that, in every slot of the view; all liars tell a site the same."""
    plot = stage.plot(view)
    for victim in stage.victims:
        _say_all(stage, liar, victim, view, plot.value(victim), plot.valid_view)


def echo(stage: Stage, liar: str, view: int) -> None:
    """Agree with everybody, so that each side of a split may believe that it has the quorum."""
    plot = stage.plot(view)
    for victim in stage.victims:
        own = victim.state.held(view, PREVOTE, victim.name)
        value = own[0].message.value if own else _proposed(stage, victim, view)
        _say_all(stage, liar, victim, view, plot.value(victim) if value == NIL else value)


def withhold(stage: Stage, liar: str, view: int) -> None:
    """Speak the truth, to some only; prevote and precommit to different ones."""
    for victim in stage.victims:
        value = _proposed(stage, victim, view)
        if value == NIL and stage.proposer(view) == liar:
            value = stage.values[view % len(stage.values)]
        for kind in (0, PREVOTE, PRECOMMIT):
            if stage.random.random() < 0.5:
                continue
            if kind:
                stage.tell(liar, victim, _vote(stage, liar, view, kind, value))
            elif value != NIL and stage.proposer(view) == liar:
                stage.tell(liar, victim, _proposal(stage, liar, view, value))


def whisper(stage: Stage, liar: str, view: int) -> None:
    """Propose to all, and vote so that only one site knows; what it does then nobody else can explain."""
    plot = stage.plot(view)
    ear = min(plot.half, default=stage.victims[0].name)
    for victim in stage.victims:
        if stage.proposer(view) == liar:
            stage.tell(liar, victim, _proposal(stage, liar, view, plot.one))
        if victim.name == ear and (value := _proposed(stage, victim, view)) != NIL:
            stage.tell(liar, victim, _vote(stage, liar, view, PREVOTE, value))


def invalid(stage: Stage, liar: str, view: int) -> None:
    """Propose and vote for what must not be agreed on, or what nobody has ever seen."""
    value = stage.random.choice(stage.bad_values)
    for victim in stage.victims:
        _say_all(stage, liar, victim, view, value)


def late(stage: Stage, liar: str, view: int) -> None:
    """Vote now in views that are over, so that old quorums appear."""
    past = stage.random.randint(0, view)
    for victim in stage.victims:
        if stage.random.random() < 0.6:
            value = stage.random.choice([_proposed(stage, victim, past), *stage.values])
            stage.tell(liar, victim, _vote(stage, liar, past, stage.random.choice([PREVOTE, PRECOMMIT]), value))


def ahead(stage: Stage, liar: str, view: int) -> None:
    """Vote in views that nobody has reached."""
    far = view + stage.random.choice(FAR_VIEWS)
    value = stage.random.choice([NIL, *stage.values])
    for victim in stage.victims:
        if stage.random.random() < 0.6:
            _say_all(stage, liar, victim, far, value)


def claim(stage: Stage, liar: str, view: int) -> None:
    """Propose with a made-up proof: a view in which the value is said to have had a quorum of prevotes."""
    turn = next((v for v in range(view, view + 3) if stage.proposer(v) == liar), view)
    value, valid_view = stage.random.choice(stage.values), stage.random.randint(-1, turn + 1)
    for victim in stage.victims:
        _say_all(stage, liar, victim, turn, value, valid_view)


def replay(stage: Stage, liar: str, view: int) -> None:
    """Send again what was said before."""
    for victim in stage.victims:
        stage.repeat(liar, victim)


def forge(stage: Stage, liar: str, view: int) -> None:
    """Speak in the name of an honest site."""
    named = stage.random.choice(stage.victims).name
    for victim in stage.victims:
        _say_all(stage, liar, victim, view, stage.random.choice(stage.values))
        stage.tell(liar, victim, _vote(stage, named, view, PRECOMMIT, stage.random.choice(stage.values)))


def silent(stage: Stage, liar: str, view: int) -> None:
    """Say nothing."""


TACTICS: dict[str, Tactic] = {
    tactic.__name__: tactic
    for tactic in (equivocate, echo, withhold, whisper, invalid, late, ahead, claim, replay, forge, silent)
}
