"""One site's computer: two cores in virtual time, and what was spent on them."""

from __future__ import annotations

from collections.abc import Callable

from covey_scale.lines import Clock


class Core:
    """Does one thing after the other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at = 0.0
        self.used_seconds = 0.0

    def run(self, seconds: float, then: Callable[..., object], *arguments: object) -> None:
        """Work for some time when it is our turn, then call something."""
        self.spend(seconds)
        self._clock.after(self._free_at - self._clock.now, then, *arguments)

    def spend(self, seconds: float) -> None:
        """Be busy: what is asked for next waits."""
        self.used_seconds += seconds
        self._free_at = max(self._clock.now, self._free_at) + seconds
