"""`covey fallback`: a member's part in the end of a task whose quorum is gone, from its state of the task."""

from __future__ import annotations

from pathlib import Path

from covey_chain.signers import Signer
from covey_chain.types import Participant
from covey_validator.errors import TaskFailed
from covey_validator.fallback import FallbackSite
from covey_validator.records import RecordInvalid, Units
from covey_validator.store import Store
from covey_validator.task import Task
from eth_utils.address import is_address, to_checksum_address
from pydantic import TypeAdapter, ValidationError

from covey_cli.contracts import Place, writing
from covey_cli.errors import CommandError


async def step(place: Place, signed_by: Signer, task_id: bytes, state: Path, rewards: Path | None) -> str:
    """Do what can be done now for the member whose key signs.

    Args:
        place: contracts.
        signed_by: the member's wallet, or its session key of the task.
        task_id: 32 bytes.
        state: the member's state directory of the task; what it commits to is kept there.
        rewards: JSON of member -> all that it has earned in base units, instead of what the records have.

    Returns:
        What was done and what comes next, in words.

    Raises:
        CommandError: the chain refuses, or something is not as it should be; says what.
    """
    given = None if rewards is None else _amounts(rewards)
    try:
        async with writing(place, signed_by) as wallet:
            chain = wallet.chain
            published = await chain.task(task_id)
            if published is None:
                raise CommandError(f"the contract knows no task 0x{task_id.hex()}")
            participants = await chain.participants(task_id)
            site = _site(participants, wallet.address)
            strangers = set(given or {}) - {each.address for each in participants}
            if strangers:
                raise CommandError(f"{rewards} names {', '.join(sorted(strangers))}, who take no part in the task")
            task = Task.of(published, participants, chain.domain)
            said = await FallbackSite(task, site, Store(state, site)).step(chain, wallet, given)
            return said.strip() + "\n"
    except (TaskFailed, RecordInvalid) as error:
        raise CommandError(str(error)) from error


def _site(participants: list[Participant], key: str) -> str:
    for participant in participants:
        if key in (participant.address, participant.session_key):
            return participant.address
    raise CommandError(f"{key} is neither a member of this task nor a session key of one")


def _amounts(path: Path) -> dict[str, int]:
    try:
        found = TypeAdapter(dict[str, Units]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise CommandError(f"{path} is no JSON object of addresses and amounts in base units: {error}") from error
    wrong = [address for address in found if not is_address(address)]
    if wrong:
        raise CommandError(f"{path}: {wrong[0]} is no address")
    return {str(to_checksum_address(address)): amount for address, amount in found.items()}
