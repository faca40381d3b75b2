"""`python -m covey_schedules`."""

from covey_schedules.cli import cli

cli(prog_name="python -m covey_schedules")
