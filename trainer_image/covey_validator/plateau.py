"""Whether a task has learnt what there is to learn: rounds in a row in which the model got no better; pure.

What is called early stopping with patience (Prechelt 1998), on the losses that a round's validators agreed on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plateau:
    """How long the model has not got better.

    Attributes:
        patience: rounds in a row without a lower loss after which a task ends; None: it plays all of its rounds.
        best: lowest median nano-loss so far, that of the first model included; None while nobody has scored.
        rounds: since then.
    """

    patience: int | None = None
    best: int | None = None
    rounds: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the task ends now."""
        return self.patience is not None and self.rounds >= self.patience

    def after(self, base: int | None, left: int | None) -> Plateau:
        """Take in a round.

        Args:
            base: median nano-loss of the model that it began with; None when nobody scored.
            left: of the model that it leaves behind, the same one if the round was discarded.
        """
        best = base if self.best is None else self.best
        if left is not None and (best is None or left < best):
            return replace(self, best=left, rounds=0)
        return replace(self, best=best, rounds=self.rounds + 1)
