"""`covey appeal`: what a member, an auditor and anybody else says on chain about stake that a task holds."""

from __future__ import annotations

from covey_chain import signing
from covey_chain.signers import Signer
from covey_chain.types import AuditVerdict
from eth_utils.crypto import keccak

from covey_cli.contracts import Place, writing
from covey_cli.errors import CommandError


async def file(place: Place, signed_by: Signer, task_id: bytes) -> str:
    """Appeal, as the member whose stake is held.

    Raises:
        CommandError: the chain refuses; says why.
    """
    async with writing(place, signed_by) as wallet:
        await wallet.appeal(task_id)
    return "The appeal is on chain. Now `covey appeal open` writes the records that the task's auditor must see.\n"


async def decide(place: Place, key: bytes, verdict: AuditVerdict, findings: bytes, signed_by: Signer) -> str:
    """Sign a verdict with the auditor's key, and carry it.

    Raises:
        CommandError: the chain refuses; says why.
    """
    async with writing(place, signed_by) as wallet:
        task = await wallet.chain.task(verdict.task_id)
        if task is None or task.auditor != signing.address_of(key):
            who = task.auditor if task is not None and task.auditor else "nobody"
            raise CommandError(f"the auditor of this task is {who}, the key is that of {signing.address_of(key)}")
        signature = signing.sign(wallet.chain.domain, verdict, key)
        await wallet.post_verdict(verdict, findings, signature)
    return f"The verdict is on chain: the records are {'real' if verdict.authentic else 'not real'}.\n"


async def testify(place: Place, signed_by: Signer, task_id: bytes, member: str, epoch: int, findings: bytes) -> str:
    """Say on chain, as a participant, what the models lose on an audit set.

    Raises:
        CommandError: the chain refuses; says why.
    """
    async with writing(place, signed_by) as wallet:
        await wallet.testify(task_id, member, epoch, findings)
    return "The figures are on chain; they count with those of more than half of the others' stake.\n"


async def resolve(place: Place, signed_by: Signer, task_id: bytes, member: str) -> str:
    """Have the task burn or let go what it still holds of a member.

    Raises:
        CommandError: the chain refuses; says why.
    """
    async with writing(place, signed_by) as wallet:
        before = await wallet.chain.penalty_of(task_id, member)
        if before is None:
            raise CommandError(f"{member} takes no part in this task")
        await wallet.resolve_held(task_id, member)
        after = await wallet.chain.penalty_of(task_id, member)
    burnt = after is not None and after.slashed > before.slashed
    return f"{before.held} base units were {'burnt' if burnt else 'let go'}.\n"


def verdict_of(task_id: bytes, member: str, epoch: int, authentic: bool, findings: bytes) -> AuditVerdict:
    """What an auditor signs."""
    return AuditVerdict(task_id, member, epoch, authentic, bytes(keccak(findings)))
