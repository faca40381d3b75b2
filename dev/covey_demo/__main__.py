"""`python -m covey_demo`."""

from covey_demo.cli import cli

cli(prog_name="python -m covey_demo")
