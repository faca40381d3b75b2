"""One run of one scenario with one seed under the rule: train, judge, appeal, settle."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
from covey_validator.incentives.evidence import Outcome
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.rule import State, after_round, close_epoch, settle
from covey_validator.incentives.terms import Rule
from rich.console import Console
from rich.progress import track

from covey_bench.incentives import rivals
from covey_bench.incentives.auditing import Audit
from covey_bench.incentives.federation import Federation
from covey_bench.incentives.outturn import POOL_SHARE, Money, Outturn, Run, Scenario

Job = tuple[Scenario, int]

STAKE = 10**18


def run(scenario: Scenario, seed: int) -> Run:
    """Run a scenario with the rule that it names, on one thread."""
    torch.set_num_threads(1)
    return {Money.RULE: with_rule, Money.STAKE: rivals.by_stake, Money.FLOCK: rivals.flock}[scenario.money](
        scenario, seed
    )


def with_rule(scenario: Scenario, seed: int, rule: Rule | None = None) -> Run:
    """Train, judge, appeal, settle."""
    federation = Federation(scenario.task, scenario.roles, seed, scenario.absent)
    audit = Audit(federation, scenario.evidence, seed)
    state = State.start(rule or federation.rule, dict.fromkeys(federation.here, STAKE))
    epoch: list[RoundFacts] = []
    ladder: dict[str, list[float]] = {site: [] for site in federation.roles}
    said: dict[str, list[str]] = {site: [] for site in federation.roles}
    for number in range(1, scenario.task.rounds + 1):
        epoch.append(federation.round(state.active, state.clips))
        if number % state.rule.epoch_rounds == 0:
            state, decisions = close_epoch(state, epoch, federation.movement.gram(), audit.findings(state))
            epoch = []
            for site, decision in decisions.items():
                said[site].append(decision.reason)
            for site, account in state.accounts.items():
                ladder[site].append(100 * (account.held + account.burnt) / STAKE)
        state = audit.file(after_round(state, number))
    for site, found in audit.findings(state).items():
        state = state.with_findings(site, found)
    end = scenario.task.rounds + state.rule.appeal_rounds + state.rule.answer_rounds + 1
    bounty = STAKE * len(federation.here) // POOL_SHARE
    settled = settle(after_round(state, end), federation.movement.gram(), bounty, end)
    accuracy = federation.accuracy()
    members = []
    for site, role in federation.roles.items():
        if site not in state.accounts:
            members.append(Outturn(role, 0, 0, 0, None, False, accuracy[site]))
            continue
        account, got = state.accounts[site], settled[site]
        said[site].append(got.reason)
        members.append(
            Outturn(
                role,
                100 * got.reward / STAKE,
                100 * got.slashed / STAKE,
                max(ladder[site]),
                account.removed,
                account.outcome is Outcome.PROVEN,
                accuracy[site],
                ladder[site],
            )
        )
    accepted = sum(federation.accepted) / len(federation.accepted)
    return Run(members, accepted, *federation.planted(), list(said.values()))


def _work(job: Job) -> tuple[Job, Run, float]:
    started = time.perf_counter()
    return job, run(*job), time.perf_counter() - started


def runs(jobs: Sequence[Job]) -> tuple[dict[Job, Run], float]:
    """All runs, on all cores, one thread each; and the seconds that they took on one core."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        done = list(track(pool.map(_work, jobs), "training", len(jobs), console=Console(stderr=True)))
    return {job: result for job, result, _ in done}, sum(seconds for _, _, seconds in done)
