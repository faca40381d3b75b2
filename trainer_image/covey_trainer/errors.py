"""Why a site cannot go on training. Each error carries a reason of the API and a remedy in words."""

from __future__ import annotations

from typing import ClassVar

from covey_api.status import Reason


class TrainerError(Exception):
    """Training at this site failed.

    Attributes:
        reason: the reason of the task's condition.
        user_error: True when a retry cannot help before somebody changes program, config or data.
        problem: what is wrong and where.
        remedy: what to do about it.
    """

    reason: ClassVar[Reason] = Reason.PODS_CRASHING
    user_error: ClassVar[bool] = False

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"


class EntrypointNotFound(TrainerError):
    """The image holds no such module or class."""

    reason = Reason.ENTRYPOINT_NOT_FOUND
    user_error = True


class ProgramError(TrainerError):
    """The program raised an exception or broke its contract."""

    reason = Reason.PROGRAM_ERROR
    user_error = True


class DataInvalid(TrainerError):
    """The member's records do not follow the schema that the program expects."""

    reason = Reason.DATA_INVALID
    user_error = True


class WorkersFailed(TrainerError):
    """The site's workers were lost more often than is tolerated; a new start of the pods may help."""


class WorkersMissing(TrainerError):
    """The site's workers did not come up in time."""

    reason = Reason.PODS_STARTING


class HeadMissing(TrainerError):
    """The head of the site's Ray cluster did not come up in time."""

    reason = Reason.PODS_STARTING


class ValidatorLost(TrainerError):
    """The validator beside the driver does not answer."""


class HandoverError(TrainerError):
    """A file in the shared directory is not the one that was announced."""
