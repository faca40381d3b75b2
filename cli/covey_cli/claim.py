"""`covey claim`: have paid what members earned in a task that is done, from any member's report of it.

The pods of a member claim for it. One that came back when all others had gone has no proof of what it earned; every
member's report.json has all amounts, and the chain knows the root of their tree, so the report need not be trusted.
"""

from __future__ import annotations

from pathlib import Path

from covey_chain.client import Chain
from covey_chain.merkle import RewardTree
from covey_chain.signers import Signer
from covey_validator.records import Units
from eth_utils.address import is_address, to_checksum_address
from pydantic import BaseModel, ValidationError

from covey_cli.contracts import Place, writing
from covey_cli.errors import CommandError


class Report(BaseModel):
    """What is read of report.json."""

    rewards: dict[str, Units]


async def claim(place: Place, signed_by: Signer, task_id: bytes, report: Path) -> str:
    """Send what is open; each member is paid, whoever signs pays for the transactions alone.

    Args:
        place: contracts.
        signed_by: any account of the chain.
        task_id: 32 bytes.
        report: report.json of any member.

    Returns:
        A line for each member, in base units of the bounty's token.

    Raises:
        CommandError: the report is not what was settled, or the chain refuses.
    """
    rewards = _rewards(report)
    tree = RewardTree(rewards, task_id)
    async with writing(place, signed_by) as wallet:
        await _check(wallet.chain, task_id, tree.root, report)
        lines = []
        for member, earned in sorted(rewards.items()):
            before = await wallet.chain.claimed(task_id, member)
            if earned > before:
                await wallet.claim(task_id, member, earned, tree.proof(member))
                lines.append(f"✓ {member}: {earned - before} paid\n")
            else:
                lines.append(f"  {member}: {f'has been paid {before}' if before else 'earned nothing'}\n")
    return "".join(lines)


async def _check(chain: Chain, task_id: bytes, root: bytes, report: Path) -> None:
    if await chain.task(task_id) is None:
        raise CommandError(f"the contract knows no task 0x{task_id.hex()}")
    settled = await chain.settlement(task_id)
    if settled.reward_root != root:
        raise CommandError(
            f"{report} does not have the rewards that were settled in round {settled.round} of this task: take "
            "report.json of a member whose task has ended, from the folder of its model.safetensors"
        )


def _rewards(report: Path) -> dict[str, int]:
    try:
        found = Report.model_validate_json(report.read_bytes()).rewards
    except (OSError, ValidationError) as error:
        raise CommandError(f"{report} is no report of a task: {error}") from error
    wrong = [address for address in found if not is_address(address)]
    if wrong or not found:
        raise CommandError(f"{report}: {f'{wrong[0]} is no address' if wrong else 'there are no rewards in it'}")
    return {str(to_checksum_address(address)): amount for address, amount in found.items()}
