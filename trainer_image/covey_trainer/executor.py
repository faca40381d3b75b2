"""What the driver asks of the machines that train: one small protocol, values of numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from covey_api.terms import TaskTerms
from numpy.typing import NDArray

Parameters = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Initialised:
    """A site that is ready to train.

    Attributes:
        parameters: name -> float32 array; the same at every site for the same terms and seed.
        train_examples: records that the site trains on.
        holdout_examples: records kept out to score updates.
    """

    parameters: Parameters
    train_examples: int
    holdout_examples: int


@dataclass(frozen=True)
class Trained:
    """The outcome of one round's inner steps.

    Attributes:
        delta: base - local, the pseudo-gradient (Douillard et al. 2023, arXiv:2311.08105); names and shapes of base.
        samples: records seen, with repetition.
        loss: mean per-example loss over these samples, each measured just before the step that it took part in.
    """

    delta: Parameters
    samples: int
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """A parameter set on the whole local holdout; `loss_sum` can be infinite or NaN when the parameters are bad."""

    loss_sum: float
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class Executor(Protocol):
    """Trains and evaluates at one site. All methods raise `TrainerError`."""

    workers: int
    ray_version: str  # empty when Ray is not used

    def initialise(self, terms: TaskTerms, seed: int) -> Initialised:
        """Load program and data, split off the holdout, build the first model; called once."""
        ...

    def train(self, base: Parameters, round_number: int) -> Trained:
        """Take the inner steps of a round from `base`. The inner optimiser's state lives on between rounds."""
        ...

    def evaluate(self, candidates: Sequence[Parameters], metrics: bool) -> list[Evaluation]:
        """Losses of parameter sets on the holdout, in the order given; the program's metrics too if asked for."""
        ...

    def close(self) -> None:
        """Let go of all machines; safe to call more than once."""
        ...
