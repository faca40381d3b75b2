"""Which messages the network loses: lines that are down, and the losses that hurt most."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from covey_exchange.agreement_state import State
from covey_exchange.agreement_types import NIL, Epoch, Received

from covey_schedules.setting import Setting
from covey_schedules.telling import slot


class Weather:
    """Drawn from the world's randomness as it goes."""

    def __init__(self, setting: Setting, random: Random, everybody: Epoch, honest: Collection[str]) -> None:
        self._setting = setting
        self._random = random
        self._everybody = everybody
        self._honest = sorted(honest)
        self._down: frozenset[tuple[str, str]] = frozenset()
        self._wounds: dict[int, tuple[tuple[frozenset[str], float], ...]] = {}

    def cut(self) -> str:
        """Draw anew which directed lines are down: between two halves, single ones, all of one site, or none."""
        names, random = list(self._setting.weights), self._random
        kind = random.choice(["halves", "lines", "one site", "none"])
        half = {name for name in names if random.random() < 0.5} if kind == "halves" else {random.choice(names)}
        self._down = frozenset(
            (a, b)
            for a in names
            for b in names
            if kind != "none" and (random.random() < 0.4 if kind == "lines" else (a in half) != (b in half))
        )
        return kind

    def delays(self, sender: str, receiver: str) -> list[tuple[float, bool]]:
        """When a message that is sent now arrives, and whether it is a copy; nothing if it is lost."""
        random, setting = self._random, self._setting
        if (sender, receiver) in self._down or random.random() < setting.loss:
            return []
        found = [(random.uniform(0, setting.slow_seconds), True)] if random.random() < setting.twice else []
        is_slow = random.random() < setting.slow
        return [*found, (random.uniform(0, setting.slow_seconds) if is_slow else random.expovariate(4), False)]

    def hurts(self, name: str, state: State, received: Received, now: float) -> bool:
        """Whether a wounded view keeps this from the site: the proposal, or the vote that completes a quorum."""
        message = received.message
        _, view, kind = slot(message)
        if view not in self._wounds:
            self._wounds[view] = self._wound(now)
        who, until = self._wounds[view][kind]
        if name not in who or now > until or not state.knows(view):
            return False
        epoch = state.epoch_of(view)
        behind = state.heard(view, kind).by_value.get(message.value, 0) + epoch.weights.get(message.site, 0)
        return kind == 0 or (message.value != NIL and epoch.is_quorum(behind))

    def _wound(self, now: float) -> tuple[tuple[frozenset[str], float], ...]:
        """From whom the proposal, the decisive prevote and the decisive precommit of one view are kept, until when.

        Those without the proposal say nil, and so do those without the prevote; neither are so many that nobody can
        decide. Of the rest one sees the decision, or nobody; the others see that something else was said, and go on.
        Where those who decide vanish, the one is among them.
        """
        random, setting = self._random, self._setting
        if random.random() >= setting.wounds:
            return ((frozenset(), 0.0),) * 3
        blind, doubtful = self._minority(), self._minority()
        ears = sorted(setting.gone) if setting.vanish and setting.gone else self._honest
        lucky = frozenset(random.sample(ears, min(len(ears), random.choice([0, 1, 1, 2]))))
        return (
            (blind, now + 4),
            (doubtful - lucky, now + random.uniform(3, 10)),
            (frozenset(self._honest) - lucky, now + random.uniform(4, 40)),
        )

    def _minority(self) -> frozenset[str]:
        """Some honest sites with less than a third of the stake."""
        chosen: set[str] = set()
        most = self._random.randint(1, 3)
        for name in self._random.sample(self._honest, len(self._honest)):
            weight = sum(self._setting.weights[other] for other in chosen) + self._setting.weights[name]
            if len(chosen) < most and not self._everybody.has_honest(weight):
                chosen.add(name)
        return frozenset(chosen)
