"""`covey verify`: an auditor recomputes a task from a member's state volume, and holds it to the chain."""

from __future__ import annotations

from pathlib import Path

from covey_exchange.manifest import Manifest, model_digest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from covey_cli.contracts import Place
from covey_cli.errors import CommandError
from covey_cli.recorded import Recorded, recorded


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
    async with recorded(place, task_id, state) as found:
        return await _verify(found, model)


async def _verify(found: Recorded, model: Path) -> str:
    try:
        parameters = load_file(model)
    except (OSError, SafetensorError) as error:
        raise CommandError(f"{model}: {error}") from error
    history = found.history(Manifest.from_arrays(parameters))
    await history.follow(found.records, found.obtain)
    last, book = found.records[-1], history.book
    signed = "0x" + last.model_digest.hex()
    if model_digest(parameters) != last.model_digest:
        raise CommandError(f"{model} is not the model of round {last.round}, which has digest {signed}")
    return (
        f"✓ {len(found.records)} rounds, each signed by more than two thirds of the stake\n"
        f"✓ {found.updates} updates, each as its site signed it\n"
        "✓ rewards and penalties follow from scores and updates, round after round\n"
        f"✓ {model.name} is the model that was signed: {signed}\n"
        + await _settled(found)
        + "".join(f"  {site}: {book.words(site) or 'no epoch has ended'}\n" for site in sorted(found.task.stakes))
    )


async def _settled(found: Recorded) -> str:
    settled, last = await found.chain.settlement(found.task.task_id), found.records[-1]
    if settled.round != last.round:
        return f"! the chain has settled round {settled.round}, these records go to round {last.round}\n"
    if (settled.model_digest, settled.reward_root) != (last.model_digest, last.reward_root):
        raise CommandError(f"the chain has settled another result of round {last.round}")
    return f"✓ the chain has settled the same result of round {last.round}\n"
