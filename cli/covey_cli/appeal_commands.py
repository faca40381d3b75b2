"""`covey appeal`: commands and their options; the work is in `appeal`, `opening`, `examination`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from covey_cli.errors import CommandError
from covey_cli.options import FILE, FOLDER, KEY, address, of_task, signer_of

if TYPE_CHECKING:
    from covey_cli.contracts import Place
    from covey_cli.examination import Examined

_MEMBER = click.option("--member", required=True, metavar="0x…", help="Owner address of the member.")
_DATA = click.option("--data", required=True, type=FOLDER, help="The member's data set, as the task reads it.")
_SECRET = click.option(
    "--secret",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keeps what opens the commitment; made with it.",
)
_TO = click.option(
    "--to", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File that gets the opened records."
)
_STATE = click.option("--state", type=FOLDER, help="Some member's state directory of the task, or a copy of it.")
_OPENING = click.option("--opening", type=FILE, help="What `covey appeal open` wrote for the member, or `seal`.")


@click.group()
def appeal() -> None:
    """What a member and an auditor say about stake that a task holds, and about records that nobody else has."""


@appeal.command("commit")
@of_task
@KEY
@_DATA
@_SECRET
def commit_holdout(place: Place, task_id: bytes, key_file: Path, data: Path, secret: Path) -> None:
    """Commit, before a task starts and best before accepting it, to the records that this member holds out."""
    from covey_cli import opening as work  # torch takes seconds to import, and `covey --help` should not

    click.echo(asyncio.run(work.commit(place, signer_of(key_file), task_id, data, secret)), nl=False)


@appeal.command("file")
@of_task
@KEY
def file_appeal(place: Place, task_id: bytes, key_file: Path) -> None:
    """Appeal, with the key of the member whose stake is held, against penalty or removal."""
    from covey_cli import appeal as work

    click.echo(asyncio.run(work.file(place, signer_of(key_file), task_id)), nl=False)


@appeal.command("open")
@of_task
@_MEMBER
@_DATA
@_SECRET
@_TO
def open_records(place: Place, task_id: bytes, member: str, data: Path, secret: Path, to: Path) -> None:
    """Write the records that were drawn when the member appealed, for the auditor."""
    from covey_cli import opening as work

    click.echo(asyncio.run(work.show(place, address(member), task_id, data, secret, to)), nl=False)


@appeal.command("examine")
@of_task
@_MEMBER
@_OPENING
@_STATE
@click.option(
    "--records", type=click.Path(file_okay=False, path_type=Path), help="Folder for the records, to be looked at."
)
def examine_records(
    place: Place, task_id: bytes, member: str, opening: Path | None, state: Path | None, records: Path | None
) -> None:
    """Hold opened records to their commitment, and say what the task's models lose on them; signs nothing."""
    click.echo(_examined(place, task_id, member, opening, state, records).words, nl=False)


@appeal.command("testify")
@of_task
@KEY
@_MEMBER
@_OPENING
@_STATE
def testify(
    place: Place, task_id: bytes, key_file: Path, member: str, opening: Path | None, state: Path | None
) -> None:
    """Say on chain, with a participant's key, what the task's models lose on an audit set."""
    from covey_cli import appeal as work

    found = _examined(place, task_id, member, opening, state, None)
    click.echo(found.words)
    done = work.testify(place, signer_of(key_file), task_id, found.member, len(found.found), found.findings)
    click.echo(asyncio.run(done), nl=False)


@appeal.command("seal")
@click.option("--entrypoint", required=True, metavar="MODULE:CLASS", help="The task's program, on the import path.")
@click.option("--config", default="{}", show_default=True, metavar="JSON", help="The task's program.config.")
@_DATA
@_TO
def seal_set(entrypoint: str, config: str, data: Path, to: Path) -> None:
    """Commit, as a Planner before publication, to an audit set: records that stand for those of a minority."""
    from covey_cli import opening as work

    try:
        read = json.loads(config)
    except ValueError as error:
        raise CommandError(f"--config is no JSON: {error}") from error
    click.echo(work.seal(entrypoint, read, data, to), nl=False)


@appeal.command("decide")
@of_task
@KEY
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
    if epoch is None:
        examined = _examined(place, task_id, member, opening, state, None)
        click.echo(examined.words)
        epoch, said = len(examined.found), examined.findings
    verdict = work.verdict_of(task_id, address(member), epoch, authentic, said)
    key = private_key(key_file.read_text())
    click.echo(asyncio.run(work.decide(place, key, verdict, said, signer_of(key_file))), nl=False)


@appeal.command("resolve")
@of_task
@KEY
@_MEMBER
def resolve_appeal(place: Place, task_id: bytes, key_file: Path, member: str) -> None:
    """Have a task that is over burn or let go what it holds of a member; anybody may."""
    from covey_cli import appeal as work

    click.echo(asyncio.run(work.resolve(place, signer_of(key_file), task_id, address(member))), nl=False)


def _examined(
    place: Place, task_id: bytes, member: str, opening: Path | None, state: Path | None, records: Path | None
) -> Examined:
    from covey_cli.examination import examine

    if opening is None or state is None:
        raise CommandError("name the records with --opening, and the task's history with --state")
    return asyncio.run(examine(place, task_id, address(member), opening, state, records))
