"""`covey appeal commit`, `open`, `seal`: who has records binds itself to them, and shows those that are asked for."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covey_api.base import ApiModel
from covey_api.terms import TaskTerms, TermsError
from covey_chain.client import Chain
from covey_chain.signers import Signer
from covey_chain.types import Holdout as Committed
from covey_exchange.seed import task_seed
from covey_trainer.errors import TrainerError
from covey_trainer.opened import all_of, holdout_of
from covey_validator.clerk import read
from covey_validator.incentives.cases import Case
from covey_validator.incentives.docket import Docket
from covey_validator.incentives.holdout import SALT_BYTES, Holdout, Opening, draw
from covey_validator.incentives.terms import Rule
from covey_validator.records import Bytes, Bytes32
from pydantic import ValidationError

from covey_cli.contracts import Place, reading, writing
from covey_cli.errors import CommandError
from covey_cli.recorded import known


class Secret(ApiModel):
    """What a member must keep from the commitment to the opening, and show nobody."""

    task_id: Bytes32
    secret: Bytes32


class OpenedRecord(ApiModel):
    """One record with its path."""

    index: int
    salt: Bytes32
    record: Bytes
    path: list[Bytes32]


class Openings(ApiModel):
    """What a member shows to the auditor, or a Planner to all.

    Attributes:
        member: whose holdout it is; None for an audit set.
    """

    member: str | None = None
    records: list[OpenedRecord]

    @property
    def openings(self) -> list[Opening]:
        """As the commitment is held to them."""
        return [Opening(each.index, each.salt, each.record, tuple(each.path)) for each in self.records]

    @classmethod
    def read(cls, path: Path) -> Openings:
        """Read what `show` wrote.

        Raises:
            CommandError: it is something else.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CommandError(f"{path} holds no opened records: {error}") from error


async def commit(place: Place, signed_by: Signer, task_id: bytes, data: Path, secret: Path) -> str:
    """Commit on chain to the records that this member holds out; the secret file is needed to open them.

    Raises:
        CommandError: the chain refuses, the data are not usable, or the secret file is another task's.
    """
    async with writing(place, signed_by) as wallet:
        commitment = (await _holdout(wallet.chain, task_id, data, _secret(secret, task_id))).commitment
        await wallet.commit_holdout(task_id, Committed(commitment.root, commitment.records))
    return f"Committed to {commitment.records} records. Keep {secret}: without it they cannot be opened.\n"


async def show(place: Place, member: str, task_id: bytes, data: Path, secret: Path, to: Path) -> str:
    """Write the records that were drawn when the member appealed, with their paths.

    Raises:
        CommandError: it has not appealed or not committed, or these are not the records that it committed to.
    """
    async with reading(place) as chain:
        case = await case_of(chain, task_id, member)
        holdout = await _holdout(chain, task_id, data, _secret(secret, task_id))
    if holdout.commitment != case.commitment:
        raise CommandError(f"these are not the records that {member} has committed to; is {data} as it was then?")
    opened = holdout.open(draw(case.beacon, member, case.commitment, Rule().evidence_records))
    _keep(to, _openings(member, opened))
    return f"{len(opened)} records are in {to}. Give it to the auditor, and to nobody else.\n"


def seal(entrypoint: str, config: Mapping[str, Any], data: Path, to: Path) -> str:
    """Write an audit set, opened, and say what to put into the terms of a task.

    Raises:
        CommandError: program or data are not usable.
    """
    try:
        holdout = Holdout(all_of(entrypoint, config, data), secrets.token_bytes(SALT_BYTES))
    except (TrainerError, ValueError) as error:
        raise CommandError(str(error)) from error
    commitment = holdout.commitment
    _keep(to, _openings(None, holdout.open(range(commitment.records))))
    return (
        f"Keep {to} until somebody is flagged; then give it to all members. In the task:\n\n"
        "incentives:\n"
        "  auditSets:\n"
        f'    - root: "0x{commitment.root.hex()}"\n'
        f"      records: {commitment.records}\n"
    )


async def case_of(chain: Chain, task_id: bytes, member: str, round_number: int = 0) -> Case:
    """What an auditor is asked about a member, as of now.

    Raises:
        CommandError: it has not committed to records, or not appealed.
    """
    docket = await read(chain, task_id, Docket(), await chain.block_number())
    case = docket.case(task_id, member, round_number)
    if case is None:
        done = "committed to records before the start" if member not in docket.commitments else "appealed"
        raise CommandError(f"{member} has not {done}")
    return case


async def _holdout(chain: Chain, task_id: bytes, data: Path, secret: bytes) -> Holdout:
    try:
        terms = TaskTerms.parse((await known(chain, task_id)).spec)
        return Holdout(holdout_of(terms, task_seed(task_id), data), secret)
    except (TermsError, TrainerError, ValueError) as error:
        raise CommandError(str(error)) from error


def _openings(member: str | None, opened: Sequence[Opening]) -> Openings:
    records = [OpenedRecord(index=o.index, salt=o.salt, record=o.record, path=list(o.path)) for o in opened]
    return Openings(member=member, records=records)


def _keep(path: Path, value: ApiModel) -> None:
    path.touch(0o600)
    path.write_text(value.model_dump_json(by_alias=True))


def _secret(path: Path, task_id: bytes) -> bytes:
    """The secret in a file, which is made if it is not there."""
    if not path.exists():
        _keep(path, Secret(task_id=task_id, secret=secrets.token_bytes(SALT_BYTES)))
    try:
        kept = Secret.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CommandError(f"{path} holds no secret of a commitment: {error}") from error
    if kept.task_id != task_id:
        raise CommandError(f"{path} is the secret of task 0x{kept.task_id.hex()}")
    return kept.secret
