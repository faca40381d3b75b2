"""`covey verify`: an auditor recomputes a task from a member's state volume, and holds it to the chain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.types import PublishedTask
from covey_exchange.envelope import Roster, SiteUpdate
from covey_exchange.manifest import Manifest, model_digest
from covey_validator import archive
from covey_validator.archive import ArchiveInvalid
from covey_validator.clerk import hearing
from covey_validator.errors import TaskFailed
from covey_validator.history import History
from covey_validator.records import CertifiedRound, RecordInvalid, Signers
from covey_validator.task import Task
from safetensors import SafetensorError
from safetensors.numpy import load_file

from covey_cli.appeal import Place
from covey_cli.errors import CommandError


async def verify(place: Place, task_id: bytes, state: Path, model: Path) -> str:
    """Recompute what members were paid and lost, and compare all of it with what was signed and settled.

    Args:
        place: contracts.
        task_id: 32 bytes.
        state: a member's state directory of the task, or a copy of it.
        model: the model.safetensors that came of it.

    Returns:
        What holds, in words.

    Raises:
        CommandError: something does not hold, or is missing; says what.
    """
    try:
        chain = await Chain.connect(place.rpc_url, place.chain_id, place.contract)
        try:
            return await _verify(chain, task_id, state, model)
        finally:
            await chain.close()
    except (ChainError, TaskFailed, RecordInvalid) as error:
        raise CommandError(str(error)) from error


async def _verify(chain: Chain, task_id: bytes, state: Path, model: Path) -> str:
    published = await chain.task(task_id)
    if published is None:
        raise CommandError(f"the contract knows no task 0x{task_id.hex()}")
    task = Task.of(published, await chain.participants(task_id), chain.domain)
    try:
        parameters = load_file(model)
    except (OSError, SafetensorError) as error:
        raise CommandError(f"{model}: {error}") from error
    records = _records(state, await _signers(chain, task))
    manifest = Manifest.from_arrays(parameters)
    roster = Roster(task.domain, task_id, [site.peer for site in task.sites])
    updates = 0

    async def obtain(digest: bytes) -> SiteUpdate:
        nonlocal updates
        path = archive.file_of(state / "updates", digest)
        try:
            found = archive.parse(roster, digest, path.read_bytes())
        except (OSError, ArchiveInvalid) as error:
            raise CommandError(f"{path}: {error}; take another member's state") from error
        updates += 1
        return found

    history = History(task, manifest, hearing(chain, task))
    await history.follow(records, obtain)
    last = records[-1]
    signed = "0x" + last.model_digest.hex()
    if model_digest(parameters) != last.model_digest:
        raise CommandError(f"{model} is not the model of round {last.round}, which has digest {signed}")
    return (
        f"✓ {len(records)} rounds, each signed by more than two thirds of the stake\n"
        f"✓ {updates} updates, each as its site signed it\n"
        "✓ rewards and penalties follow from scores and updates, round after round\n"
        f"✓ {model.name} is the model that was signed: {signed}\n"
        + await _settled(chain, published, last)
        + "".join(f"  {site}: {history.book.words(site) or 'no epoch has ended'}\n" for site in sorted(task.stakes))
    )


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


async def _settled(chain: Chain, published: PublishedTask, last: CertifiedRound) -> str:
    settled = await chain.settlement(published.task_id)
    if settled.round != last.round:
        return f"! the chain has settled round {settled.round}, these records go to round {last.round}\n"
    if (settled.model_digest, settled.reward_root) != (last.model_digest, last.reward_root):
        raise CommandError(f"the chain has settled another result of round {last.round}")
    return f"✓ the chain has settled the same result of round {last.round}\n"
