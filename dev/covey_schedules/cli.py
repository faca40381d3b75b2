"""`replay` shows one schedule; `soak` plays fresh ones on all cores."""

from __future__ import annotations

import os
import secrets
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import count

import click

from covey_schedules.play import MACHINES, play, play_all
from covey_schedules.promises import BrokenPromise

BLOCK = 100
REPORT_SECONDS = 10.0


@click.group()
def cli() -> None:
    """Seeded schedules for the agreement machine."""


@cli.command()
@click.argument("seed", type=int)
@click.option("--machine", type=click.Choice(sorted(MACHINES)), default="sound", help="The machine, or a broken one.")
@click.option("--real-signatures", is_flag=True, help="Sign with secp256k1 instead of a stand-in.")
@click.option("--quiet", is_flag=True, help="Only the outcome, not every event.")
def replay(seed: int, machine: str, real_signatures: bool, quiet: bool) -> None:
    """Play the schedule of SEED again, event by event; exit status 1 if a promise is broken."""
    try:
        world = play(seed, MACHINES[machine], real_signatures=real_signatures, trace=None if quiet else click.echo)
    except BrokenPromise as problem:
        click.echo(f"broken: {problem}")
        sys.exit(1)
    views = [certificate.view for certificate in world.certificates]
    click.echo(f"all promises hold; {len(world.sites)} sites decided in views {min(views)} to {max(views)}")


def _block(first: int) -> tuple[int, list[str]]:
    return first, [str(problem) for problem in play_all(range(first, first + BLOCK))[1]]


@cli.command()
@click.option("--seconds", type=float, default=3600.0, show_default=True, help="How long.")
@click.option("--seeds", type=int, default=None, help="How many schedules at most, whatever time it takes.")
@click.option("--first", type=int, default=None, help="First seed; a random one if not given.")
@click.option("--jobs", type=int, default=os.cpu_count() or 1, show_default=True, help="Processes.")
def soak(seconds: float, seeds: int | None, first: int | None, jobs: int) -> None:
    """Play fresh schedules on all cores; exit status 1 if any breaks a promise."""
    first = secrets.randbelow(2**40) if first is None else first
    started = reported = time.monotonic()
    blocks = iter(range(first, first + seeds, BLOCK)) if seeds is not None else count(first, BLOCK)
    played, broken = 0, 0
    click.echo(f"schedules from seed {first} on, {jobs} at a time")
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(_block, block) for _, block in zip(range(2 * jobs), blocks, strict=False)}
        while running:
            done, running = wait(running, timeout=REPORT_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                problems = future.result()[1]
                played, broken = played + BLOCK, broken + len(problems)
                for problem in problems:
                    click.echo(problem)
            now = time.monotonic()
            if seeds is not None or now - started < seconds:
                running |= {pool.submit(_block, block) for _, block in zip(done, blocks, strict=False)}
            if now - reported >= REPORT_SECONDS or not running:
                reported = now
                rate = played / (now - started)
                click.echo(f"{now - started:6.0f} s  {played:,} schedules, {rate:.0f} a second, {broken} broken")
    sys.exit(1 if broken else 0)
