"""What the updates have made of the model so far: what influence and copies are judged by.

It lives in memory, one model's size for each member, and is made anew from the archived updates after a restart or
when rounds were missed, so that every site, and anybody with the updates, gets the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping

from covey_exchange.merge import RoundMerge

from covey_validator.incentives.copies import Flat, Past, copied
from covey_validator.incentives.geometry import Gram, Movement
from covey_validator.incentives.terms import Rule

_RECENT_ROUNDS = 2  # what a copycat would send


class Track:
    """One task's rounds, as far as they are certified.

    Attributes:
        round: the newest that was taken in.
    """

    def __init__(self, rule: Rule) -> None:
        self.round = 0
        self._rule = rule
        self._movement = Movement()
        self._newest: tuple[RoundMerge, Mapping[str, Flat]] | None = None  # that was looked at
        self._public: list[tuple[Past, bool]] = []  # with whether the round was accepted

    def copies(self, merge: RoundMerge) -> frozenset[str]:
        """Sites whose update of the next round repeats what others had made public."""
        return copied(self._rule, self._flat(merge), [past for past, _ in self._public])

    def take(self, round_number: int, merge: RoundMerge, accepted: bool) -> None:
        """Take in a round; once, however often it is told.

        Raises:
            ValueError: a round is missing before it.
        """
        if round_number <= self.round:
            return
        if round_number != self.round + 1:
            raise ValueError(f"round {self.round + 1} is missing before round {round_number}")
        if accepted:
            self._movement.add(merge.parts())
        rounds = [*self._public, (Past(self._flat(merge)), accepted)]
        self._newest = None
        older, recent = rounds[:-_RECENT_ROUNDS], rounds[-_RECENT_ROUNDS:]
        if not any(there for _, there in recent):
            recent = [each for each in older if each[1]][-1:] + recent  # the last step of the model
        self._public = recent
        self.round = round_number

    def gram(self) -> Gram:
        """Inner products of all that the sites have made of the model."""
        return self._movement.gram()

    def _flat(self, merge: RoundMerge) -> Mapping[str, Flat]:
        if self._newest is None or self._newest[0] is not merge:
            self._newest = merge, {site: Flat.of(update) for site, update in merge.parts().items()}
        return self._newest[1]
