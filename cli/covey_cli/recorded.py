"""A task as a member's state volume has recorded it, and as the chain knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from covey_chain.client import Chain
from covey_chain.types import PublishedTask
from covey_exchange.envelope import Roster, SiteUpdate
from covey_exchange.manifest import Manifest
from covey_validator import archive
from covey_validator.archive import ArchiveInvalid
from covey_validator.clerk import hearing
from covey_validator.errors import TaskFailed
from covey_validator.history import History
from covey_validator.records import CertifiedRound, RecordInvalid, Signers
from covey_validator.task import Task

from covey_cli.contracts import Place, reading
from covey_cli.errors import CommandError


@dataclass
class Recorded:
    """A task, its signed results, and the updates that they name.

    Attributes:
        updates: read so far.
    """

    chain: Chain
    task: Task
    state: Path
    records: list[CertifiedRound]
    updates: int = 0

    def history(self, manifest: Manifest) -> History:
        """Before the first round."""
        return History(self.task, manifest, hearing(self.chain, self.task))

    async def obtain(self, digest: bytes) -> SiteUpdate:
        """An update from the archive.

        Raises:
            CommandError: it is not there, or not as its site signed it.
        """
        path = archive.file_of(self.state / "updates", digest)
        roster = Roster(self.task.domain, self.task.task_id, [site.peer for site in self.task.sites])
        try:
            found = archive.parse(roster, digest, path.read_bytes())
        except (OSError, ArchiveInvalid) as error:
            raise CommandError(f"{path}: {error}; take another member's state") from error
        self.updates += 1
        return found


@asynccontextmanager
async def recorded(place: Place, task_id: bytes, state: Path) -> AsyncIterator[Recorded]:
    """Read a task; every result is held to its signatures.

    Args:
        place: contracts.
        task_id: 32 bytes.
        state: a member's state directory of the task, or a copy of it.

    Raises:
        CommandError: something does not hold, or is missing, then or inside; says what.
    """
    try:
        async with reading(place) as chain:
            published = await known(chain, task_id)
            task = Task.of(published, await chain.participants(task_id), chain.domain)
            yield Recorded(chain, task, state, _records(state, await _signers(chain, task)))
    except (TaskFailed, RecordInvalid) as error:
        raise CommandError(str(error)) from error


async def known(chain: Chain, task_id: bytes) -> PublishedTask:
    """A task as the chain has it.

    Raises:
        CommandError: it has none.
    """
    published = await chain.task(task_id)
    if published is None:
        raise CommandError(f"the contract knows no task 0x{task_id.hex()}")
    return published


async def _signers(chain: Chain, task: Task) -> Signers:
    newest = (await chain.roll_calls(task.task_id)).epoch
    ended = [await chain.roll_call(task.task_id, number) for number in range(1, newest + 1)]
    return replace(task.signers, epochs=tuple(each.active for each in ended))


def _records(state: Path, signers: Signers) -> list[CertifiedRound]:
    records: list[CertifiedRound] = []
    for path in sorted((state / "certified").glob("*.json")):
        record = CertifiedRound.parse(path.read_bytes())
        signers.verify(record)
        if record.round != len(records) + 1:
            raise CommandError(f"{path}: a result of round {record.round}, where {len(records) + 1} is next")
        records.append(record)
    if not records:
        raise CommandError(f"{state} is no state directory of a task: {state / 'certified'} holds no results")
    return records
