"""Errors of the development tools; each says what to do about it."""


class DevError(Exception):
    """Something that the person at the terminal can act on.

    Attributes:
        problem: what went wrong, naming the cluster, file or program.
        remedy: what to do next, one sentence or command.
        log: the last lines of the program that failed, if one did.
    """

    def __init__(self, problem: str, remedy: str, log: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.log = log


class CommandError(DevError):
    """A program ended with a non-zero status; `log` holds the end of what it printed."""


class NotReadyError(DevError):
    """Something did not become ready in the time that it should need."""


class UnsupportedError(DevError):
    """This machine lacks something that no package can add."""


class AlreadyRunningError(DevError):
    """What was to be started runs already."""
