"""Roll calls in the world: what an honest site does with the register, and what liars do."""

from __future__ import annotations

from random import Random
from typing import Protocol

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement_types import PREVOTE, Enter, Event, Leave, Received

from covey_schedules.machines import Machine
from covey_schedules.register import Register
from covey_schedules.setting import Setting
from covey_schedules.site import Site


class Stage(Protocol):
    """What of the world a roll call needs."""

    setting: Setting
    machine: Machine
    random: Random
    register: Register
    now: float
    messages: list[Received]

    def feed(self, site: Site, event: Event) -> None:
        """Hand an event to a site's machine."""
        ...

    def show(self, site: Site, number: int) -> None:
        """Let a site read a message on chain."""
        ...

    def number(self, received: Received) -> int:
        """The number of a message."""
        ...

    def post(self, epoch: int, site: str, shown: tuple[int, ...]) -> None:
        """Send a transaction with an answer."""
        ...

    def say(self, text: str) -> None:
        """Note something for a replay."""
        ...


def attend(stage: Stage, site: Site) -> None:
    """One look at the register: follow it, answer if need be, and end a call whose time is over."""
    register, coming = stage.register, stage.register.current + 1
    for number in range(len(site.epochs) + 1, coming):
        _follow(stage, site, number)
    if site.left == coming:
        if site.name not in register.answers and not site.is_silent:
            stage.post(coming, site.name, site.shown)  # it was lost in a crash or an outage
    elif site.is_silent:
        if register.answers.keys() >= register.sets[-1] - {site.name}:
            _answer(stage, site, coming)
    elif register.closes_at is not None or _is_stuck(stage, site):
        _answer(stage, site, coming)
    if stage.now > (register.closes_at or 0) and register.close(stage.now, stage.setting.liars):
        stage.say(f"epoch {register.current} begins with {len(register.sets[-1])} sites")


def _is_stuck(stage: Stage, site: Site) -> bool:
    if site.certificate is not None or not site.state.started:
        return False
    is_active = site.name in stage.register.sets[-1]
    return not is_active or stage.now - site.since > stage.setting.patience_seconds


def _follow(stage: Stage, site: Site, number: int) -> None:
    register = stage.register
    shown = tuple(stage.messages[n] for n in register.shown[number])
    for n in register.shown[number]:
        stage.show(site, n)
    votes = tuple(received for received in shown if isinstance(received.message, Vote))
    epoch = stage.machine.epoch(number, register.active(number), votes)
    site.epochs.append(epoch)
    site.since = stage.now
    stage.feed(site, Enter(epoch))


def _answer(stage: Stage, site: Site, coming: int) -> None:
    """Show the latest quorum of prevotes, and the proposals that carry the bytes of its value."""
    proof = site.state.evidence
    values = {received.message.value for received in proof}
    proposals = [n for n in site.log if isinstance(stage.messages[n].message, Proposal)]
    site.shown = tuple(
        [stage.number(received) for received in proof]
        + [n for n in proposals if stage.messages[n].message.value in values][:1]
    )
    site.left, site.synced = coming, len(site.log)  # on disk before it is sent
    stage.feed(site, Leave(coming))
    stage.post(coming, site.name, site.shown)


def mislead(stage: Stage, liar: str) -> None:
    """Answer a call that others have answered, or don't: with nothing, or with any prevotes of the past."""
    register, random = stage.register, stage.random
    if not register.answers or liar in register.answers or random.random() < 0.5:
        return
    prevotes = [
        number
        for number, received in enumerate(stage.messages)
        if isinstance(received.message, Vote) and received.message.kind == PREVOTE
    ]
    old = random.choice(prevotes) if prevotes and random.random() < 0.5 else None
    shown: tuple[int, ...] = ()
    if old is not None:
        view, value = stage.messages[old].message.view, stage.messages[old].message.value
        shown = tuple(
            n for n in prevotes if (stage.messages[n].message.view, stage.messages[n].message.value) == (view, value)
        )
    stage.post(register.current + 1, liar, shown)
