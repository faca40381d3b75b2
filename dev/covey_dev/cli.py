"""The command line: `python -m covey_dev`."""

import os
from pathlib import Path

import click

from covey_dev import apiserver, choice, golden, images, release, slither, status, teardown, tools
from covey_dev.errors import DevError
from covey_dev.place import Site, Variant
from covey_dev.progress import say


class _Group(click.Group):
    """A group that prints a DevError as what happened and what to do, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DevError as error:
            if error.log:
                say(error.log.rstrip())
            say(f"error: {error.problem}\n  {error.remedy}")
            ctx.exit(1)


@click.group(cls=_Group)
def cli() -> None:
    """Real Kubernetes clusters, a registry, a chain and Covey's images on one Linux machine.

    Without Docker; with CLUSTER=kind in the environment, by kind on a Docker engine.
    """


@cli.command("tools")
@click.option("--print-env", is_flag=True, help="Print the tools' paths as shell exports.")
def tools_command(print_env: bool) -> None:
    """Install and build every tool that is missing."""
    if print_env:
        click.echo(tools.shell_exports())
    else:
        tools.ensure()


@cli.command("slither")
def slither_command() -> None:
    """Analyse the contracts, and fail if anything is found."""
    slither.check()


_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_values = click.option("--values", type=_file, required=True, help="Values of the chart, with your images.")


@cli.command("manifests")
@_values
@click.option("--namespace", default=release.NAMESPACE, show_default=True, help="Of the operator.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
def manifests_command(values: Path, namespace: str, out: Path) -> None:
    """Write the chart as plain manifests for kubectl."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(release.manifests(values, namespace))
    click.echo(out)


@cli.command("release")
@_values
@click.option("--key", type=_file, required=True, help="minisign's secret key.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory to write to.")
def release_command(values: Path, key: Path, out: Path) -> None:
    """Make chart, manifests, bills of materials, checksums and their signature."""
    for file in release.make(out, values, key):
        click.echo(file)


@cli.group("apiserver")
def apiserver_group() -> None:
    """A real API server without nodes, on loopback."""


@apiserver_group.command("up")
@click.argument("name", default="test")
@click.option("--audit", is_flag=True, help="Log every request.")
def apiserver_up(name: str, audit: bool) -> None:
    """Start a new, empty API server and print its kubeconfig."""
    server = apiserver.named(name, audit=audit)
    server.start()
    click.echo(server.kubeconfig)


@apiserver_group.command("down")
@click.argument("name", default="test")
def apiserver_down(name: str) -> None:
    """Stop it and forget its objects."""
    apiserver.named(name).remove()


@cli.group("cluster")
def cluster_group() -> None:
    """Real Kubernetes clusters of one node each."""


def _site(name: str) -> Site:
    for site in choice.chosen().known():
        if site.name == name:
            return site
    raise DevError(f"there is no cluster {name!r}", f"Start it: `python -m covey_dev cluster up {name}`.")


def _each(names: tuple[str, ...]) -> list[str]:
    return [_site(name).name for name in names] if names else [site.name for site in choice.chosen().known()]


@cluster_group.command("up")
@click.argument("names", nargs=-1, required=True)
@click.option("--oldest", is_flag=True, help="New ones run the oldest Kubernetes that Covey supports.")
def cluster_up(names: tuple[str, ...], oldest: bool) -> None:
    """Bring clusters up, all at once."""
    choice.chosen().up(list(dict.fromkeys(names)), names if oldest else ())


@cluster_group.command("down")
@click.argument("names", nargs=-1)
def cluster_down(names: tuple[str, ...]) -> None:
    """Stop clusters (all without NAMES) and keep their state."""
    for name in _each(names):
        choice.chosen().down(name)


@cluster_group.command("wipe")
@click.argument("names", nargs=-1)
def cluster_wipe(names: tuple[str, ...]) -> None:
    """Stop clusters (all without NAMES) and forget their state."""
    for name in _each(names):
        choice.chosen().wipe(name)


@cluster_group.command("status")
def cluster_status() -> None:
    """Show the clusters."""
    click.echo(status.clusters(choice.chosen()))


@cluster_group.command("kubeconfig")
@click.argument("name")
def cluster_kubeconfig(name: str) -> None:
    """Print the path of the administrator's kubeconfig."""
    click.echo(_site(name).kubeconfig)


@cluster_group.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def cluster_exec(name: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on the cluster's node, with kubectl and ctr set up for the cluster."""
    whole = [*choice.chosen().enter(_site(name).name), *command]
    os.execvp(whole[0], whole)  # noqa: S606 (the exit status and the terminal are the command's own)


@cli.group("registry")
def registry_group() -> None:
    """The image registry of all clusters."""


@registry_group.command("up")
def registry_up() -> None:
    """Start it and print its address for pushes."""
    click.echo(choice.chosen().registry_up())


@registry_group.command("down")
def registry_down() -> None:
    """Stop it; pushed images stay (with CLUSTER=kind they are pushed again when they are wanted)."""
    choice.chosen().registry_down()


@cli.group("image")
def image_group() -> None:
    """Covey's images."""


_variant = click.option(
    "--variant",
    type=click.Choice(["full", "trimmed"]),
    default="full",
    envvar="COVEY_IMAGE_VARIANT",
    show_default=True,
    help="trimmed: without CUDA libraries, a third of the size; for demo and tests.",
)


@image_group.command("build")
@click.argument("names", nargs=-1, required=True, type=click.Choice(list(images.IMAGES)))
@_variant
def image_build(names: tuple[str, ...], variant: Variant) -> None:
    """Build and push images; prints one registry.local/…@sha256:… per line."""
    for name in names:
        click.echo(choice.chosen().image(name, variant))


@image_group.command("golden")
@_variant
def image_golden(variant: Variant) -> None:
    """Build all images, and the store from which new clusters start with them unpacked."""
    for reference in golden.ensure(variant):
        click.echo(reference)


@image_group.command("clean")
def image_clean() -> None:
    """Forget all layers that were built here; the registry keeps what was pushed."""
    images.clean()


@cli.group("anvil")
def anvil_group() -> None:
    """A development chain for all clusters."""


@anvil_group.command("up")
@click.option("--block-seconds", type=click.IntRange(min=1), help="Mine at this interval, not per transaction.")
@click.option("--keep-state", is_flag=True, help="Go on with the chain of the last time.")
def anvil_up(block_seconds: int | None, keep_state: bool) -> None:
    """Start it and print its RPC URL."""
    click.echo(choice.chosen().chain_up(block_seconds, keep_state))


@anvil_group.command("down")
def anvil_down() -> None:
    """Stop it."""
    choice.chosen().chain_down()


@cli.command("status")
def status_command() -> None:
    """Show clusters, services, images and what is left of older runs."""
    click.echo(status.everything())


@cli.command("down")
@click.option("--wipe", is_flag=True, help="Forget the clusters' state too.")
def down_command(wipe: bool) -> None:
    """Stop everything and undo every change to the host; caches stay."""
    teardown.everything(wipe)
