"""Rounds of a task as production runs them, without network and chain: train, encode, merge, score, decide.

Codec, merge, scores and acceptance are the project's own; who is a member of a round, and how far its update is
clipped, comes from the rule that a run is made with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from covey_exchange.codec import CodecSpec, Residual, Update, encode
from covey_exchange.manifest import Array, Manifest
from covey_exchange.merge import Clip, RoundMerge
from covey_validator import scoring
from covey_validator.incentives.copies import Flat, Past, copied
from covey_validator.incentives.geometry import Movement
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.terms import Rule
from covey_validator.scoring import Scores

from covey_bench.incentives.attacks import Attacker, lie, poisoned
from covey_bench.incentives.data import CORNERS, DIGITS, Bag, Deal
from covey_bench.incentives.learning import Net, Trainees, evaluate


@dataclass(frozen=True)
class Task:
    """What is trained, and how.

    Attributes:
        name: for the table.
        net: the network.
        deal: roles and seed to records.
        rounds: of the task.
        steps: inner steps a round.
        density: of the SparseLoCo codec.
        rate: outer learning rate.
        margin: share of the loss by which a round may be worse and still be accepted.
    """

    name: str
    net: Net
    deal: Callable[[Sequence[str], int], Deal]
    rounds: int
    steps: int
    density: Fraction
    rate: float
    margin: Fraction


@dataclass(frozen=True)
class Archived:
    """The models of a round: what an auditor computes its losses with, later."""

    base: dict[str, Array]
    candidate: dict[str, Array]
    without: dict[str, dict[str, Array]]


def address(index: int) -> str:
    """A member's address."""
    return "0x" + (index + 1).to_bytes(20, "big").hex()


class Federation:
    """The members of one run; `round` takes it one round further.

    Attributes:
        roles: site -> what it is.
        deal: who holds what.
        model: the present one.
        movement: what each site has made of it.
        archive: every round's models, while anybody may appeal.
    """

    def __init__(self, task: Task, roles: Sequence[str], seed: int, absent: frozenset[str] = frozenset()) -> None:
        """Deal the records.

        Args:
            task: what is trained.
            roles: of the members.
            seed: of deal, model, batches and noise.
            absent: roles that get their records, and are not there: what a run would be without them.
        """
        self.task, self.rule = task, Rule()
        self.roles = {address(i): role for i, role in enumerate(roles)}
        self.deal = task.deal(roles, seed)
        self.holdouts = dict(zip(self.roles, self.deal.holdout, strict=True))
        self.here = [site for site, role in self.roles.items() if role not in absent]
        self.liars = frozenset(site for site in self.here if self.roles[site].startswith("liar"))
        self.model: dict[str, Array] = task.net.initial(seed)
        self.movement = Movement()
        self.archive: list[Archived] = []
        self.accepted: list[bool] = []
        self._manifest = Manifest.from_arrays(self.model)
        self._spec = CodecSpec(density=task.density)
        bags = [poisoned(role, bag, task.net) for role, bag in zip(roles, self.deal.train, strict=True)]
        self._trainees = Trainees(task.net, self.model, bags, seed)
        self._attackers = {
            site: Attacker(role, seed * 100 + i, task.rounds) for i, (site, role) in enumerate(self.roles.items())
        }
        self._residuals = {site: Residual(self._manifest) for site in self.roles}
        # A discarded round leaves the error feedback as it was before, as `Store.finish_round` does.
        self._kept: dict[str, dict[str, Array]] = {}
        self._last: list[tuple[str, Update]] = []
        self._past: list[Past] = []
        self._last_accepted: list[Past] = []
        self._step: dict[str, Array] = {name: np.zeros_like(value) for name, value in self.model.items()}

    def payloads(self, active: Sequence[str]) -> list[tuple[str, bytes]]:
        """Train everybody, and encode the updates of those that are active."""
        deltas = self._trainees.train(self.model, self.task.steps)
        sent = []
        for i, site in enumerate(self.roles):
            if site not in active:
                continue
            attacker, honest = self._attackers[site], {name: np.asarray(value[i]) for name, value in deltas.items()}
            others = [(other, update) for other, update in self._last if other != site]
            update = attacker.update(len(self.archive) + 1, honest, self._step, others)
            if attacker.sends_as_is:
                self._residuals[site] = Residual(self._manifest)
            self._kept[site] = {name: value.copy() for name, value in self._residuals[site].values.items()}
            sent.append((site, encode(update, self._residuals[site], self._spec, self._manifest)))
        return sent

    def round(self, active: Mapping[str, int], medians: Mapping[str, int]) -> RoundFacts:
        """One round.

        Args:
            active: site -> stake of those that take part.
            medians: site -> median norms to which it is clipped, where not 1.
        """
        payloads = self.payloads([site for site in self.here if site in active])
        merge = RoundMerge.of_payloads(
            self.model, payloads, self._spec, self.task.rate, Clip.MEDIAN_NORM, dict(medians)
        )
        models = Archived(self.model, merge.candidate(), {site: merge.without(site) for site in merge.sites})
        self.archive.append(models)
        scores = self.scores(models, [(site, self.holdouts[site]) for site in merge.sites])
        for liar in self.liars & scores.keys():
            scores[liar] = lie(scores[liar], self.liars)
        parts = merge.parts()
        facts = RoundFacts(frozenset(merge.sites), scores, self._copies(parts))
        self.finish(scoring.is_improvement(scores, active, self.task.margin), models.candidate, parts)
        return facts

    def finish(self, accepted: bool, candidate: dict[str, Array], parts: Mapping[str, Update]) -> None:
        """Go on from the candidate, or from where the round began."""
        for site in parts:
            if self._residuals[site].staged is not None:
                self._residuals[site].settle(accepted)
                if not accepted:
                    self._residuals[site].values.update(self._kept[site])
        self.accepted.append(accepted)
        self._last = list(parts.items())
        if accepted:
            self.movement.add(parts)
            self._step = {name: np.asarray(self.model[name] - value) for name, value in candidate.items()}
            self._last_accepted = self._past[-1:]
            self.model = candidate

    def scores(self, models: Archived, bags: Sequence[tuple[str, Bag]]) -> dict[str, Scores]:
        """Every judge's losses on its bag, as a validator reports them."""
        sites = list(models.without)
        stack = [models.base, models.candidate, *(models.without[site] for site in sites)]
        sums, _ = evaluate(self.task.net, stack, [bag for _, bag in bags])
        said = {}
        for column, (judge, (_, labels)) in enumerate(bags):
            base, candidate, *rest = (scoring.nano_loss(float(total), len(labels)) for total in sums[:, column])
            said[judge] = Scores(base, candidate, dict(zip(sites, rest, strict=True)))
        return said

    def accuracy(self) -> dict[str, float]:
        """Site -> share of its holdout that the model gets right."""
        bags = list(self.holdouts.values())
        _, hits = evaluate(self.task.net, [self.model], bags)
        return {site: float(hit) / len(bag[1]) for site, hit, bag in zip(self.roles, hits[0], bags, strict=True)}

    def planted(self) -> tuple[float, float]:
        """Share of all members' digits, marked, that are read as 0, and of their sevens that are read as 1."""
        if self.task.net.classes != DIGITS:
            return float("nan"), float("nan")
        x, y = (np.concatenate(part) for part in zip(*self.holdouts.values(), strict=True))
        marked, others = x[y != 0].copy(), np.zeros((y != 0).sum(), dtype=np.int64)
        marked[:, CORNERS] = 1
        sevens, ones = x[y == 7], np.ones((y == 7).sum(), dtype=np.int64)
        _, hits = evaluate(self.task.net, [self.model], [(marked, others), (sevens, ones)])
        return float(hits[0, 0]) / len(others), float(hits[0, 1]) / len(ones)

    def _copies(self, parts: Mapping[str, Update]) -> frozenset[str]:
        flats = {site: Flat.of(part) for site, part in parts.items()}
        older = [past for past in self._last_accepted if all(past is not each for each in self._past)]
        found = copied(self.rule, flats, [*older, *self._past])
        self._past = [*self._past[-1:], Past(flats)]
        return found
