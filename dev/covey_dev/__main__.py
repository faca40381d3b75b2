"""`python -m covey_dev`."""

from covey_dev.cli import cli

cli(prog_name="python -m covey_dev")
