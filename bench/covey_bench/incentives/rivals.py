"""The same training under other rules: pay by stake alone, and FLock's vote as published (arXiv:2211.04344)."""

from __future__ import annotations

import numpy as np
from covey_exchange.codec import CodecSpec
from covey_exchange.merge import Clip, RoundMerge
from covey_validator.incentives.terms import Rule

from covey_bench.incentives.federation import Federation
from covey_bench.incentives.learning import evaluate
from covey_bench.incentives.outturn import POOL_SHARE, Outturn, Run, Scenario

_TOKENS = 64.0  # of each member at the start
_RISK = 8.0  # what a lost vote costs at most
_PROPOSERS = 3
_TOLERANCE = 0.95  # of the accuracy before, from which a voter says yes
_PERCENT = 100.0


def by_stake(scenario: Scenario, seed: int) -> Run:
    """Every accepted round pays its part of the bounty in equal parts to those whose updates counted."""
    federation = Federation(scenario.task, scenario.roles, seed)
    sites = dict.fromkeys(federation.here, 1)
    rewards = dict.fromkeys(sites, 0.0)
    for _ in range(scenario.task.rounds):
        facts = federation.round(sites, {})
        if federation.accepted[-1]:
            for site in facts.included:
                rewards[site] += _PERCENT * len(sites) / POOL_SHARE / scenario.task.rounds / len(facts.included)
    return _run(federation, rewards, dict.fromkeys(sites, 0.0), {}, {})


def flock(scenario: Scenario, seed: int) -> Run:
    """Random proposers, everybody else votes on their mean; who loses the vote loses tokens to those who win it.

    Three proposers a round where there are ten members, one where there are three; a voter says yes if the accuracy on
    its holdout is at least 95 % of the last accepted one; the majority decides; proposers share the fate of their mean;
    at zero tokens a member is out. Members that judge falsely vote the other way.
    """
    federation = Federation(scenario.task, scenario.roles, seed)
    rng = np.random.default_rng([7, seed])
    sites, pool = federation.here, _PERCENT * len(federation.here) / POOL_SHARE / scenario.task.rounds
    tokens, rewards = dict.fromkeys(sites, _TOKENS), dict.fromkeys(sites, 0.0)
    before: dict[str, float] = {}
    out: dict[str, int] = {}
    least = dict(tokens)
    for number in range(1, scenario.task.rounds + 1):
        active = [site for site in sites if tokens[site] > 0]
        if len(active) < 2:
            break
        proposers = set(rng.permutation(active)[: min(_PROPOSERS, len(active) // 2)].tolist())
        merge = RoundMerge.of_payloads(
            federation.model,
            federation.payloads(sorted(proposers)),
            CodecSpec(density=scenario.task.density),
            scenario.task.rate,
            Clip.MEDIAN_NORM,
        )
        candidate = merge.candidate()
        voters = [site for site in active if site not in proposers]
        bags = [federation.holdouts[site] for site in sites]
        _, hits = evaluate(scenario.task.net, [candidate], bags)
        found = {site: float(h) / len(bag[1]) for site, h, bag in zip(sites, hits[0], bags, strict=True)}
        yes = {
            site: (found[site] >= _TOLERANCE * before.get(site, 0.0)) != (site in federation.liars) for site in voters
        }
        accepted = 2 * sum(yes.values()) > len(voters)
        won = [site for site in voters if yes[site] == accepted]
        lost = {site: min(tokens[site], _RISK) for site in voters if yes[site] != accepted}
        spoils = sum(lost.values())
        if not accepted:
            lost |= {site: min(tokens[site], _RISK) for site in proposers}
        for site, amount in lost.items():
            tokens[site] -= amount
        for site in won:
            tokens[site] += spoils / len(won)
        winners = [*won, *(proposers if accepted else ())]
        for site in winners:
            rewards[site] += pool / len(winners)
        if accepted:
            before = found
        federation.finish(accepted, candidate, merge.parts())
        least = {site: min(least[site], tokens[site]) for site in sites}
        epoch = -(-number // Rule().epoch_rounds)
        out |= {site: epoch for site in active if tokens[site] <= 0}
    slashed = {site: _PERCENT * (_TOKENS - tokens[site]) / _TOKENS for site in sites}
    return _run(federation, rewards, slashed, out, {s: _PERCENT * (1 - least[s] / _TOKENS) for s in sites})


def _run(
    federation: Federation,
    rewards: dict[str, float],
    slashed: dict[str, float],
    removed: dict[str, int],
    most: dict[str, float],
) -> Run:
    accuracy = federation.accuracy()
    members = [
        Outturn(
            role, rewards[site], slashed[site], max(0.0, most.get(site, 0.0)), removed.get(site), False, accuracy[site]
        )
        for site, role in federation.roles.items()
    ]
    return Run(members, sum(federation.accepted) / len(federation.accepted), *federation.planted())
