"""Commands and their options; the work is in the other modules."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from covey_cli.appeal_commands import appeal
from covey_cli.errors import CommandError
from covey_cli.options import FILE, FOLDER, KEY, of_task, signer_of

if TYPE_CHECKING:
    from covey_cli.contracts import Place


class _Group(click.Group):
    """Shows a CommandError as a sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            click.secho(f"error: {error}", fg="red", err=True)
            ctx.exit(1)


@click.group(cls=_Group)
@click.version_option(package_name="covey", prog_name="covey", message="%(prog)s %(version)s")
def cli() -> None:
    """Train one model across institutions that may not share data."""


@cli.command()
@click.argument("task", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--members", type=click.IntRange(1, 16), default=3, show_default=True, help="How many members take part.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with member-1, … and test; default: the task's own data maker.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Repeat with that many deals of the data.",
)
@click.option("--rounds", type=click.IntRange(1), help="Fewer or more rounds than the task says.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps models, states and logs."
)
def simulate(task: Path, members: int, data: Path | None, seeds: int, rounds: int | None, keep: Path | None) -> None:
    """Run TASK as local processes: the same program, codec, ring, agreement, scoring and contracts, no Kubernetes."""
    from covey_cli.simulate import simulate_all  # torch takes seconds to import, and `covey --help` should not

    ok = asyncio.run(simulate_all(task, members=members, data=data, seeds=seeds, rounds=rounds, keep=keep))
    sys.exit(0 if ok else 1)


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--consortium", required=True, help="Its name on chain.")
@click.option("--rpc-url", required=True, metavar="URL", help="JSON-RPC of a node that you trust.")
@click.option("--chain-id", required=True, type=click.IntRange(1), help="EIP-155 chain id.")
@click.option("--contract", required=True, metavar="0x…", help="The consortium's Settlement contract.")
@click.option("--advertise", required=True, metavar="HOST[:PORT]", help="Where other members reach this one.")
@click.option("--registry", required=True, metavar="NAME", help="Your images are NAME/operator and NAME/trainer.")
@click.option(
    "--dataset",
    "datasets",
    nargs=3,
    multiple=True,
    metavar="NAME SCHEMA CLAIM",
    help="A data set: its name, its schema, its PersistentVolumeClaim. Can be repeated.",
)
@click.option("--stake", default="0", show_default=True, help="Stake to hold, in whole tokens.")
@click.option("--namespace", "-n", metavar="NAME", help="For Subnet and tasks; default: the consortium's name.")
def init(
    folder: Path,
    consortium: str,
    rpc_url: str,
    chain_id: int,
    contract: str,
    advertise: str,
    registry: str,
    datasets: tuple[tuple[str, str, str], ...],
    stake: str,
    namespace: str | None,
) -> None:
    """Make in FOLDER what a new member needs: wallet key, values of the chart, Subnet; and say what to run."""
    from covey_cli.init import Seat
    from covey_cli.init import init as make

    seat = Seat(consortium, rpc_url, chain_id, contract, advertise, registry, stake, namespace or consortium, datasets)
    click.echo(make(folder, seat))


@cli.command()
@click.option("--rpc-url", required=True, metavar="URL", help="JSON-RPC of a node of the chain.")
@click.option("--chain-id", required=True, type=click.IntRange(1), help="EIP-155 chain id.")
@click.option("--key-file", type=FILE, help="Signs: 0x and 64 hex digits.")
@click.option("--keystore", type=FILE, help="Signs: Web3 Secret Storage, version 3.")
@click.option("--password-file", type=FILE, help="Opens the keystore.")
@click.option("--signer", metavar="URL", help="Signs: JSON-RPC with eth_signTransaction, as of Web3Signer.")
@click.option("--address", metavar="0x…", help="The account whose key the signer holds.")
@click.option("--token", metavar="0x…", help="The ERC-20 token of stakes and bounties.")
@click.option("--development-token", is_flag=True, help="Deploy a token that everybody can mint, instead.")
@click.option("--consortium", metavar="NAME", help="Create it as well.")
@click.option("--least-stake", default="0", show_default=True, help="Of the consortium, in whole tokens.")
@click.option("--by-vote", is_flag=True, help="Members of the consortium decide who joins.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("deployment.json"),
    show_default=True,
    help="Keeps what is planned where: run again with it after an interruption.",
)
def deploy(
    rpc_url: str,
    chain_id: int,
    key_file: Path | None,
    keystore: Path | None,
    password_file: Path | None,
    signer: str | None,
    address: str | None,
    token: str | None,
    development_token: bool,
    consortium: str | None,
    least_stake: str,
    by_vote: bool,
    record: Path,
) -> None:
    """Deploy the contracts of a consortium, once; say their addresses."""
    from covey_cli import deploy as work  # web3 takes a second to import

    if (token is None) != development_token:
        raise CommandError("name the stake token with --token, or ask for one with --development-token")
    signed_by = work.signer(key_file, keystore, password_file, signer, address)
    founding = None if consortium is None else work.Founding(consortium, least_stake, by_vote)
    click.echo(asyncio.run(work.deploy(rpc_url, chain_id, signed_by, token, record, founding)), nl=False)


@cli.command()
@of_task
@click.option("--state", required=True, type=FOLDER, help="A member's state directory of the task, or a copy of it.")
@click.option("--model", required=True, type=FILE, help="The model.safetensors that came of it.")
def verify(place: Place, task_id: bytes, state: Path, model: Path) -> None:
    """Recompute a task from a member's state: signatures, updates, rewards, penalties; hold it to the chain."""
    from covey_cli import verify as work

    click.echo(asyncio.run(work.verify(place, task_id, state, model)), nl=False)


cli.add_command(appeal)


@cli.command()
@of_task
@KEY
@click.option(
    "--state", required=True, type=FOLDER, help="Your state directory of the task; it keeps what you commit to."
)
@click.option("--rewards", type=FILE, help="JSON: member to all it has earned, in base units; default: your records.")
def fallback(place: Place, task_id: bytes, key_file: Path, state: Path, rewards: Path | None) -> None:
    """After the deadline of a task without a quorum, do the step that is due: commit, reveal, settle, or claim.

    Run it again for each step; it says when the next one is due.
    """
    from covey_cli import fallback as work

    click.echo(asyncio.run(work.step(place, signer_of(key_file), task_id, state, rewards)), nl=False)


@cli.command()
@of_task
@KEY
@click.option("--report", required=True, type=FILE, help="report.json of any member, from beside its model.")
def claim(place: Place, task_id: bytes, key_file: Path, report: Path) -> None:
    """Have paid what members earned in a task that is done and did not claim, as when one was away at its end.

    Any key will do: it pays for the transactions, the members get the rewards.
    """
    from covey_cli import claim as work

    click.echo(asyncio.run(work.claim(place, signer_of(key_file), task_id, report)), nl=False)


def _where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which kubectl users say where."""
    options = (
        click.option("--kubeconfig", metavar="FILE", help="Default: KUBECONFIG, else ~/.kube/config."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig; default: the current one."),
        click.option("--namespace", "-n", metavar="NAME", help="Default: the context's."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("name")
@click.option("--dataset", metavar="NAME", help="Data set of the Subnet to use, when several follow the schema.")
@_where
def join(name: str, dataset: str | None, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
    """Take part in the FederatedTask NAME."""
    _answer("Join", name, dataset, kubeconfig, context, namespace)


@cli.command()
@click.argument("name")
@_where
def decline(name: str, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
    """Take no part in the FederatedTask NAME, or leave it while it runs."""
    _answer("Decline", name, None, kubeconfig, context, namespace)


def _answer(
    decision: str, name: str, dataset: str | None, kubeconfig: str | None, context: str | None, namespace: str | None
) -> None:
    from covey_api.task import Decision  # as with torch: `covey --help` should be fast

    from covey_cli.answer import answer
    from covey_cli.cluster import Place

    click.echo(answer(Place(kubeconfig, context, namespace), name, Decision(decision), dataset))
