"""Playing schedules: one, or a range of seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from covey_schedules.machines import BROKEN, SOUND, Machine
from covey_schedules.promises import BrokenPromise
from covey_schedules.setting import Setting
from covey_schedules.signatures import SessionKeys
from covey_schedules.world import World

MACHINES: dict[str, Machine] = {SOUND.name: SOUND, **{name: machine for name, (machine, _) in BROKEN.items()}}


def play(
    seed: int,
    machine: Machine = SOUND,
    *,
    real_signatures: bool = False,
    trace: Callable[[str], None] | None = None,
) -> World:
    """Play the schedule of a seed.

    Raises:
        BrokenPromise: a promise does not hold; says how to replay it.
    """
    setting = Setting.draw(seed)
    world = World(setting, machine, SessionKeys(setting.weights) if real_signatures else None, trace)
    try:
        world.run()
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise BrokenPromise(world, f"a machine fails: {error!r}") from error
    return world


def play_all(seeds: Iterable[int], machine: Machine = SOUND) -> tuple[Counter[str], list[BrokenPromise]]:
    """Play many schedules; what they reached, and what did not hold."""
    seen: Counter[str] = Counter()
    broken: list[BrokenPromise] = []
    for seed in seeds:
        try:
            seen.update(play(seed, machine).seen)
        except BrokenPromise as problem:
            broken.append(problem)
    return seen, broken
