"""The chain's part of a roll call, by the rules of `RollCalls.sol`: one register that all see in the same order."""

from __future__ import annotations

from collections.abc import Collection, Mapping


class Register:
    """Which sites are active in each epoch, and who has answered the next roll call.

    Attributes:
        sets: active sites by epoch.
        shown: numbers of the messages that were shown, by epoch.
        answers: what those who have answered the pending call show.
        closes_at: None while too few have answered.
    """

    def __init__(self, weights: Mapping[str, int], window: float) -> None:
        self.weights = weights
        self.window = window
        self.sets = [frozenset(weights)]
        self.shown: list[tuple[int, ...]] = [()]
        self.answers: dict[str, tuple[int, ...]] = {}
        self.closes_at: float | None = None

    @property
    def current(self) -> int:
        """The newest epoch."""
        return len(self.sets) - 1

    def active(self, epoch: int) -> dict[str, int]:
        """Stake by site that counts in an epoch."""
        return {site: weight for site, weight in self.weights.items() if site in self.sets[epoch]}

    def answer(self, epoch: int, site: str, shown: tuple[int, ...], now: float) -> bool:
        """A transaction with an answer; refused (False) if it is for another call, or the second one."""
        if epoch != self.current + 1 or site in self.answers:
            return False
        self.answers[site] = shown
        if self.closes_at is None and self._has_majority(self.answers):
            self.closes_at = now + self.window
        return True

    def close(self, now: float, liars: Collection[str]) -> bool:
        """End the call if its window is over, or all have answered.

        Less than a third of every set may lie, or nothing can be promised; of more liars some have not answered.
        """
        if len(self.answers) < len(self.weights) and (self.closes_at is None or now < self.closes_at):
            return False
        answered = dict(self.answers)
        while not self._has_few(liars, self._next_set(answered)):
            del answered[next(site for site in answered if site in liars)]
        if not self._has_majority(answered):
            return False
        self.sets.append(self._next_set(answered))
        self.shown.append(tuple(dict.fromkeys(number for shown in answered.values() for number in shown)))
        self.answers, self.closes_at = {}, None
        return True

    def _weigh(self, sites: Collection[str]) -> int:
        return sum(self.weights[site] for site in sites)

    def _has_majority(self, answered: Collection[str]) -> bool:
        active = self.sets[-1]
        return 2 * self._weigh(active & frozenset(answered)) > self._weigh(active)

    def _has_few(self, liars: Collection[str], members: frozenset[str]) -> bool:
        return not members or 3 * self._weigh(members & frozenset(liars)) < self._weigh(members)

    def _next_set(self, answered: Collection[str]) -> frozenset[str]:
        """Stake that comes back is let in only where nothing that was decided can be hidden (`RollCalls._close`)."""
        before, said = self.sets[-1], frozenset(answered)
        active, stayed, new = self._weigh(before), self._weigh(said & before), self._weigh(said - before)
        return said if 2 * stayed > active + new or 3 * stayed >= 2 * active else said & before
