"""What ends a task at this site."""

from __future__ import annotations

from covey_api.status import Reason


class TaskFailed(Exception):
    """The task cannot go on at this site.

    Attributes:
        reason: one of the documented reasons.
        user_error: a retry cannot help; the program, the data or the terms must change.
        concerns_all: the peers come to the same conclusion once they have all that we said.
    """

    def __init__(
        self, reason: Reason | str, message: str, *, user_error: bool = False, concerns_all: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.message = message
        self.user_error = user_error
        self.concerns_all = concerns_all
