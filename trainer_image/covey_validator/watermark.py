"""How far this site has signed, kept on another volume than its state.

Two signatures for one slot cost half of the stake, whatever the reason. The state directory knows each slot; who loses
it, or gets back an older one, would sign anew what the others still have. So the newest round and roll call lie with
the finished models, too, as CometBFT keeps `priv_validator_state.json` apart from its blocks. What lies at or below the
mark and is not in the state was lost: there this site stays silent (ADR 0014).
"""

from __future__ import annotations

from pathlib import Path

from covey_api.base import ApiModel
from covey_api.status import Reason
from pydantic import ValidationError

from covey_validator import durable
from covey_validator.errors import TaskFailed
from covey_validator.store import Store

LOST = "lost"


class Mark(ApiModel):
    """The newest of what was signed; or, in the state, up to where it was lost. 0 is nothing.

    Attributes:
        round: of updates, votes, scores and results.
        roll_call: epoch of a roll call that was answered.
    """

    round: int = 0
    roll_call: int = 0


class WaterMark:
    """The mark of one site in one task."""

    def __init__(self, output_dir: Path, task_id: bytes, site: str) -> None:
        """Read it.

        Raises:
            TaskFailed: what is there cannot be read.
        """
        self._path = output_dir / ".covey" / f"{task_id.hex()}-{site.lower()}.json"
        try:
            self.mark = Mark.model_validate_json(self._path.read_bytes()) if self._path.exists() else Mark()
        except (OSError, ValidationError) as error:
            raise _unusable(self._path, error) from error

    def signs_in_round(self, number: int, store: Store) -> None:
        """This site may sign in a round from now on; on disk when this returns, here after the state."""
        if number > self.mark.round:
            store.open_round(number)
            self._write(round=number)

    def answers_roll_call(self, epoch: int) -> None:
        """This site sends its answer to a roll call, which is in the state; on disk when this returns."""
        if epoch > self.mark.roll_call:
            self._write(roll_call=epoch)

    def forget(self) -> None:
        """The task is done: nothing of it will be signed."""
        self._path.unlink(missing_ok=True)

    def _write(self, **changes: int) -> None:
        self.mark = self.mark.model_copy(update=changes)
        try:
            durable.write(self._path, self.mark.model_dump_json(by_alias=True).encode())
        except OSError as error:
            raise _unusable(self._path, error) from error


def _unusable(path: Path, error: Exception) -> TaskFailed:
    remedy = "See that the volume of finished models can be read and written: nothing is signed without this file."
    return TaskFailed(Reason.PODS_CRASHING, f"{path}: {error}. {remedy}")


def what_was_lost(store: Store, mark: Mark, answered: int) -> Mark:
    """What lies at or below the mark and is not in the state; written there, as the round fills anew.

    Args:
        store: the state.
        mark: of the other volume.
        answered: epoch of the newest roll call that the state knows an answer to.
    """
    data = store.get(LOST)
    lost = Mark.model_validate_json(data) if data else Mark()
    round_is_lost = mark.round > lost.round and not store.knows_round(mark.round)
    call_is_lost = mark.roll_call > max(lost.roll_call, answered)
    if round_is_lost or call_is_lost:
        lost = Mark(
            round=max(lost.round, mark.round if round_is_lost else 0),
            roll_call=max(lost.roll_call, mark.roll_call, answered),
        )
        store.put(LOST, lost)
    return lost
