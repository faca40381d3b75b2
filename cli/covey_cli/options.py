"""Options that several commands have, read into values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from covey_cli.errors import CommandError

if TYPE_CHECKING:
    from covey_chain.signers import Signer

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
KEY = click.option("--key-file", required=True, type=FILE, help="Signs: 0x and 64 hex digits.")


def of_task(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where the contracts are, and which task; the command gets `place` and `task_id`."""

    @functools.wraps(command)
    def run(rpc_url: str, chain_id: int, contract: str, task: str, **others: object) -> object:
        from covey_cli.contracts import Place  # web3 takes a second to import, and `covey --help` should not

        return command(place=Place(rpc_url, chain_id, contract), task_id=task_id(task), **others)

    found: Callable[..., Any] = run
    for option in reversed(
        (
            click.option("--rpc-url", required=True, metavar="URL", help="JSON-RPC of a node of the chain."),
            click.option("--chain-id", required=True, type=click.IntRange(1), help="EIP-155 chain id."),
            click.option("--contract", required=True, metavar="0x…", help="Address of Settlement."),
            click.option("--task", required=True, metavar="0x…", help="The task's id: `status.taskId`."),
        )
    ):
        found = option(found)
    return found


def signer_of(key_file: Path) -> Signer:
    """Who signs with the key of `KEY`."""
    from covey_cli.deploy import signer

    return signer(key_file, None, None, None, None)


def task_id(text: str) -> bytes:
    """The 32 bytes of a task's id.

    Raises:
        CommandError: it is none.
    """
    digits = text.removeprefix("0x")
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise CommandError(f"{text} is no task id: it has 0x and 64 hex digits; `kubectl describe ft` shows it")
    return found


def address(text: str) -> str:
    """A checksum address.

    Raises:
        CommandError: it is none.
    """
    from eth_utils.address import is_address, to_checksum_address

    if not is_address(text):
        raise CommandError(f"{text} is no address")
    return str(to_checksum_address(text))
