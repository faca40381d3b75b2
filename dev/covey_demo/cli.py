"""The command line: `python -m covey_demo`."""

import click
from covey_dev.errors import DevError
from covey_dev.progress import say, step

from covey_demo import machine, outcome, story


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
    """Three institutions train one model together, each in a Kubernetes cluster of its own."""


@cli.command()
def up() -> None:
    """Do the whole story, or what of it is missing; ends with the table."""
    with step("the demo"):
        stage = story.prepare()
        ended = story.train(stage)
        click.echo(outcome.report(stage, ended))


@cli.command()
def table() -> None:
    """Check the finished task again and print its table."""
    stage = story.as_it_is()
    click.echo(outcome.report(stage, story.finished(stage)))


@cli.command()
def down() -> None:
    """End what the demo made and forget its state; registry, chain and network too, if nobody else has clusters."""
    machine.down()
