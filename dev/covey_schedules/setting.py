"""What kind of schedule a seed stands for: how many sites, whose stake, what weather, who lies and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random

from covey_schedules.tactics import TACTICS

SITES_MIN, SITES_MAX = 3, 20
TOGETHER = (("echo", "equivocate"), ("echo", "equivocate"), ("whisper",), None, None)


@dataclass(frozen=True)
class Setting:
    """Everything about a schedule that is decided before it starts.

    Attributes:
        seed: all of it, and all that happens, follows from this number.
        weights: stake by address.
        liars: what each lying site does; together they have less than a third of the stake.
        round: decides who proposes first.
        values: how many different valid values sites may propose.
        heal_seconds: until then the network is bad and sites crash; from then on everything arrives.
        loss: share of messages that is lost.
        slow: share that is late by up to `slow_seconds`, so that it may meet a later view.
        twice: share that comes twice.
        wounds: share of views in which just the messages are lost that hurt: some sites never get the proposal, and
            others never the vote that would complete a quorum. Some see a quorum, then, and others go on without.
        cuts: how often it is drawn anew which lines are down.
        crashes: how often some site crashes at some moment.
        crash_at_signing: share of signatures at which the site crashes.
        gone: honest sites that go away: when, and for how long (None: for good).
        loses: honest sites that come back without their disk, once.
        vanish: they go away at the moment they decide, before anybody hears of it.
        outages: when nobody reaches the chain.
        window_seconds: how long a roll call is open.
        patience_seconds: without a decision, until a site calls the roll.
        floods: whether sites pass the messages of others on at once, and not only when they meet again.
    """

    seed: int
    weights: Mapping[str, int]
    liars: Mapping[str, tuple[str, ...]]
    round: int
    values: int
    heal_seconds: float
    loss: float
    slow: float
    slow_seconds: float
    twice: float
    wounds: float
    cuts: int
    crashes: int
    crash_at_signing: float
    floods: bool
    gone: Mapping[str, tuple[float, float | None]]
    vanish: bool
    outages: tuple[tuple[float, float], ...]
    window_seconds: float
    patience_seconds: float
    loses: frozenset[str]

    @property
    def has_calls(self) -> bool:
        """Whether somebody will have to call the roll."""
        return bool(self.gone or self.loses)

    @classmethod
    def draw(cls, seed: int) -> Setting:
        """The setting of a seed. Small numbers of sites are more frequent: they cost less and are split more easily."""
        random = Random(f"setting {seed}")  # noqa: S311 (to be repeated, no secret)
        # A decision that only those saw who go away, and liars who help the others to another one.
        hidden = random.random() < 0.06
        sizes = range(7, 14) if hidden else range(SITES_MIN, SITES_MAX + 1)
        size = random.choices(sizes, [max(n, 5) ** -1.7 for n in sizes])[0]
        names = [f"0x{number:040x}" for number in range(1, size + 1)]
        weights = _stakes(random, names)
        # Where nothing gets through nothing can go wrong, so not all bad things at once, most of the time.
        targeted = hidden or random.random() < 0.4
        blunt = 0.0 if targeted else 0.35
        liars = _liars(random, weights, ("echo", "equivocate")) if hidden else {}
        if not hidden and random.random() < 0.75:
            liars = _liars(random, weights, random.choice(TOGETHER))
        heal_seconds = random.uniform(5, 60)
        gone = _gone(random, weights, liars, heal_seconds, all_return=hidden or random.random() < 0.6)
        if not hidden and random.random() < 0.6:
            gone = {}
        return cls(
            seed=seed,
            weights=weights,
            liars=liars,
            gone=gone,
            vanish=bool(gone) and (hidden or random.random() < (0.7 if targeted else 0.2)),
            outages=_outages(random) if gone and random.random() < 0.3 else (),
            window_seconds=random.choice([12.0, 12.0, 30.0]),
            patience_seconds=random.choice([10.0, 20.0, 40.0] if gone else [20.0, 80.0, 200.0]),
            round=random.randint(0, 50),
            values=len(names) if targeted else random.choice([1, 2, 3, len(names)]),
            heal_seconds=heal_seconds,
            floods=random.random() < 0.5,
            wounds=1.0 if hidden else random.choice([0.5, 0.8, 1.0]) if targeted else _seldom(random, 0.2, 0.5),
            loss=_seldom(random, blunt, 0.1, 0.2, 0.4),
            slow=_seldom(random, blunt, 0.1, 0.3),
            slow_seconds=random.choice([5.0, 20.0]),
            twice=_seldom(random, 0.2, 0.05),
            cuts=int(_seldom(random, blunt, 3, 15)),
            crashes=int(_seldom(random, 0.35, 2, 2 * len(names))),
            crash_at_signing=_seldom(random, 0.35, 0.02, 0.1),
            loses=_loses(random, weights, [*liars, *gone]) if random.random() < 0.25 else frozenset(),
        )


def _seldom(random: Random, share: float, *amounts: float) -> float:
    return random.choice(amounts) if random.random() < share else 0


def _stakes(random: Random, names: list[str]) -> dict[str, int]:
    kind = random.choice(["equal", "uniform", "long tail", "one large"])
    if kind == "equal":
        return dict.fromkeys(names, 10**18)
    if kind == "uniform":
        return {name: random.randint(1, 100) for name in names}
    if kind == "long tail":
        return {name: int(10 * random.paretovariate(1.0)) for name in names}
    large = random.choice(names)
    return {name: random.randint(1, 2 * len(names)) if name == large else random.randint(1, 3) for name in names}


def _liars(random: Random, weights: Mapping[str, int], together: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    """As many as fit under a third of the stake, in random order; in three of ten schedules only one."""
    total, taken = sum(weights.values()), 0
    liars: dict[str, tuple[str, ...]] = {}
    alone = random.random() < 0.3
    for name in random.sample(list(weights), len(weights)):
        if 3 * (taken + weights[name]) < total and not (alone and liars):
            taken += weights[name]
            liars[name] = together or tuple(random.sample(sorted(TACTICS), random.randint(1, 4)))
    return liars


def _gone(
    random: Random, weights: Mapping[str, int], liars: Mapping[str, object], heal_seconds: float, *, all_return: bool
) -> dict[str, tuple[float, float | None]]:
    """More than half of the stake is left without them and the liars; or if all return, with the liars."""
    total = sum(weights.values())
    away = 0 if all_return else sum(weights[name] for name in liars)
    gone: dict[str, tuple[float, float | None]] = {}
    for name in random.sample(list(weights), len(weights)):
        if name not in liars and 2 * (away + weights[name]) < total:
            away += weights[name]
            seconds = random.uniform(30, 200) if all_return or random.random() < 0.5 else None
            gone[name] = random.uniform(0, heal_seconds), seconds
            if random.random() < 0.3:
                break
    return gone


def _loses(random: Random, weights: Mapping[str, int], away: Collection[str]) -> frozenset[str]:
    """Also those who are away; more than half of the stake is left without all of them: it goes on alone if it must."""
    total, taken = sum(weights.values()), sum(weights[name] for name in away)
    loses: set[str] = set()
    for name in random.sample(list(weights), len(weights)):
        if name not in away and 2 * (taken + weights[name]) < total:
            taken += weights[name]
            loses.add(name)
            if random.random() < 0.5:
                break
    return frozenset(loses)


def _outages(random: Random) -> tuple[tuple[float, float], ...]:
    begins = [random.uniform(0, 150) for _ in range(random.randint(1, 3))]
    return tuple((begin, begin + random.uniform(5, 60)) for begin in begins)
