"""The command line: `python -m covey_dev`."""

import click

from covey_dev import apiserver, tools
from covey_dev.errors import DevError
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
    """Real Kubernetes clusters, a registry, a chain and Covey's images on one Linux machine, without Docker."""


@cli.command("tools")
@click.option("--print-env", is_flag=True, help="Print the tools' paths as shell exports.")
def tools_command(print_env: bool) -> None:
    """Install and build every tool that is missing."""
    if print_env:
        click.echo(tools.shell_exports())
    else:
        tools.ensure()


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
