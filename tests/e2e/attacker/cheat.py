"""What `python -m covey_validator` is in the attacker's image: the real validator, but for two lies.

Instead of what was learnt it sends noise of the same size, well signed; and its scores say that it alone helps, and
that everybody else does as much harm.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from covey_validator import command, runner
from covey_validator.round_types import Evaluated, Event
from covey_validator.scoring import NANO, Scores

_honest_encode = runner.Runner._encode
_honest_evaluate = runner.Runner._evaluate


async def _encode(self: runner.Runner, samples: int) -> None:
    outcome = self._outcome
    assert outcome is not None
    random = np.random.default_rng(self.round)
    noise = {
        name: random.normal(0, float(np.std(value)) or 1e-6, value.shape).astype(np.float32)
        for name, value in outcome.delta.items()
    }
    self._outcome = replace(outcome, delta=noise)
    await _honest_encode(self, samples)


async def _evaluate(self: runner.Runner, sites: tuple[str, ...]) -> Event:
    said = await _honest_evaluate(self, sites)
    if not isinstance(said, Evaluated) or said.scores is None:
        return said
    true = said.scores
    own = self._node.site
    without = {site: true.candidate + (NANO if site == own else -NANO) for site in true.without}
    return Evaluated(Scores(true.base, true.candidate, without))


runner.Runner._encode = _encode  # type: ignore[method-assign]
runner.Runner._evaluate = _evaluate  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(command.main())
