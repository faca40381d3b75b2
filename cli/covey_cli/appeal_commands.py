"""`covey appeal`: commands and their options; the work is in `appeal`, `opening` and `examination`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from covey_cli.errors import CommandError
from covey_cli.options import FILE, FOLDER, address, of_task

if TYPE_CHECKING:
    from covey_chain.signers import Signer

    from covey_cli.contracts import Place

_KEY = click.option("--key-file", required=True, type=FILE, help="Signs: 0x and 64 hex digits.")
_MEMBER = click.option("--member", required=True, metavar="0x…", help="Owner address of the member.")
_DATA = click.option("--data", required=True, type=FOLDER, help="The member's data set, as the task reads it.")
_SECRET = click.option(
    "--secret",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keeps what opens the commitment; made with it.",
)
_STATE = click.option("--state", type=FOLDER, help="Some member's state directory of the task, or a copy of it.")
_OPENING = click.option("--opening", type=FILE, help="What the member wrote with `covey appeal open`.")


@click.group()
def appeal() -> None:
    """What a member and an auditor say about stake that a task holds, and about records that nobody else has."""


@appeal.command("commit")
@of_task
@_KEY
@_DATA
@_SECRET
def commit_holdout(place: Place, task_id: bytes, key_file: Path, data: Path, secret: Path) -> None:
    """Commit, after accepting a task and before it starts, to the records that this member holds out."""
    from covey_cli import opening as work  # torch takes seconds to import, and `covey --help` should not

    click.echo(asyncio.run(work.commit(place, _signer(key_file), task_id, data, secret)), nl=False)


@appeal.command("file")
@of_task
@_KEY
def file_appeal(place: Place, task_id: bytes, key_file: Path) -> None:
    """Appeal, with the key of the member whose stake is held, against penalty or removal."""
    from covey_cli import appeal as work

    click.echo(asyncio.run(work.file(place, _signer(key_file), task_id)), nl=False)


@appeal.command("open")
@of_task
@_MEMBER
@_DATA
@_SECRET
@click.option("--to", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File for the auditor.")
def open_records(place: Place, task_id: bytes, member: str, data: Path, secret: Path, to: Path) -> None:
    """Write the records that were drawn when the member appealed, for the auditor."""
    from covey_cli import opening as work

    click.echo(asyncio.run(work.show(place, address(member), task_id, data, secret, to)), nl=False)


@appeal.command("examine")
@of_task
@_OPENING
@_STATE
@click.option(
    "--records", type=click.Path(file_okay=False, path_type=Path), help="Folder for the records, to be looked at."
)
def examine_records(place: Place, task_id: bytes, opening: Path, state: Path, records: Path | None) -> None:
    """Hold opened records to their commitment, and say what the task's models lose on them; signs nothing."""
    from covey_cli import examination as work

    if opening is None or state is None:
        raise CommandError("name the records with --opening, and the task's history with --state")
    click.echo(asyncio.run(work.examine(place, task_id, opening, state, records)).words, nl=False)


@appeal.command("decide")
@of_task
@_KEY
@_MEMBER
@click.option("--real/--not-real", "authentic", required=True, help="What you have found about the member's records.")
@_OPENING
@_STATE
@click.option("--epoch", type=click.IntRange(1), help="Of the incentive rule, where no figures say it.")
@click.option("--findings", type=FILE, help="What else you want everybody to read, without figures; at most 8 KiB.")
def decide_appeal(
    place: Place,
    task_id: bytes,
    key_file: Path,
    member: str,
    authentic: bool,
    opening: Path | None,
    state: Path | None,
    epoch: int | None,
    findings: Path | None,
) -> None:
    """Decide, with the auditor's key, whether a member's records are real; with figures while the task runs."""
    from covey_chain.signing import private_key

    from covey_cli import appeal as work

    said = findings.read_bytes() if findings is not None else b""
    if opening is not None and state is not None:
        from covey_cli import examination

        examined = asyncio.run(examination.examine(place, task_id, opening, state, None))
        if examined.member != address(member):
            raise CommandError(f"the opened records are those of {examined.member}, not of {address(member)}")
        click.echo(examined.words)
        epoch, said = len(examined.found), examined.findings
    elif epoch is None:
        raise CommandError("give --opening with --state, or, where there are no figures, --epoch")
    verdict = work.verdict_of(task_id, address(member), epoch, authentic, said)
    key = private_key(key_file.read_text())
    click.echo(asyncio.run(work.decide(place, key, verdict, said, _signer(key_file))), nl=False)


@appeal.command("resolve")
@of_task
@_KEY
@_MEMBER
def resolve_appeal(place: Place, task_id: bytes, key_file: Path, member: str) -> None:
    """Have a task that is over burn or let go what it holds of a member; anybody may."""
    from covey_cli import appeal as work

    click.echo(asyncio.run(work.resolve(place, _signer(key_file), task_id, address(member))), nl=False)


def _signer(key_file: Path) -> Signer:
    from covey_cli.deploy import signer

    return signer(key_file, None, None, None, None)
