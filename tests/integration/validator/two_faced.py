"""The real validator, but that it signs a second header for one update, and tells it everybody."""

from __future__ import annotations

import sys
from dataclasses import replace

from covey_chain.types import UpdateHeader
from covey_validator import command, runner

_honest_encode = runner.Runner._encode
AT_ROUND = 2


async def _encode(self: runner.Runner, samples: int) -> None:
    await _honest_encode(self, samples)
    if self.round != AT_ROUND:
        return
    node = self._node
    (header,) = (m.body for m in node.store.own(self.round) if isinstance(m.body, UpdateHeader))
    other = replace(header, samples=header.samples + 1)
    node.exchange.broadcast(node.exchange.roster.seal(other, node.session_key))


runner.Runner._encode = _encode  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(command.main())
