"""Members that are flagged appeal at once, attackers too; an auditor, or the Planner's audit set, answers."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import numpy as np
from covey_chain.signing import Domain, address_of
from covey_validator.incentives import appeal as appeals
from covey_validator.incentives.appeal import Stage
from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.holdout import Holdout, draw
from covey_validator.incentives.rule import State
from covey_validator.incentives.sources import Auditor, AuditSet, Case, Source, drawn_records, found_in

from covey_bench.incentives.data import Bag
from covey_bench.incentives.federation import Federation

_DOMAIN = Domain(31337, "0x" + "11" * 20)
_AUDITOR_KEY = hashlib.sha256(b"auditor").digest()
_AUDITOR = address_of(_AUDITOR_KEY)
_TASK = bytes(32)


class Evidence(StrEnum):
    """What a consortium has chosen."""

    AUDITOR = "auditor"
    BLIND_AUDITOR = "blind auditor"
    AUDIT_SET = "audit set"
    NONE = "none"


class Audit:
    """The evidence of one run."""

    def __init__(self, federation: Federation, kind: Evidence, seed: int) -> None:
        self._federation, self._kind = federation, kind
        secret = hashlib.sha256(seed.to_bytes(8, "big")).digest()
        self._holdouts = {site: Holdout(_canonical(bag), secret) for site, bag in federation.holdouts.items()}
        self._cohorts = [Holdout(_canonical(bag), secret) for bag in federation.deal.audit]
        self._cases: dict[str, Case] = {}
        self._drawn: dict[str, Bag] = {}
        self._cohort_of: dict[str, int] = {}

    def file(self, state: State) -> State:
        """Everybody from whom something is held appeals, if there is anything to appeal to; records are opened."""
        if self._kind is Evidence.NONE:
            return state
        at = len(self._federation.archive)
        for site, account in state.accounts.items():
            if account.held and account.removed is None and account.appeal.stage is Stage.NONE:
                state = state.with_appeal(site, appeals.Filed(at))
                beacon = hashlib.sha256(b"beacon" + at.to_bytes(8, "big")).digest()
                self._cases[site] = Case(_TASK, site, at, self._holdouts[site].commitment, beacon)
                state = state.with_appeal(site, appeals.Opened(at + 1))
        return state

    def findings(self, state: State) -> dict[str, tuple[Finding, ...]]:
        """What the evidence says of all who have appealed, all epochs so far; checked as every site would."""
        found = {}
        rule, at = state.rule, len(self._federation.archive)
        for site, case in self._cases.items():
            if state.accounts[site].removed is None:
                now = Case(case.task_id, site, at, case.commitment, case.beacon)
                found[site] = self._source(state, now).findings(rule, now)
        return found

    def _source(self, state: State, case: Case) -> Source:
        rule, size = state.rule, state.rule.epoch_rounds
        epochs = range(case.round // size)
        if self._kind is Evidence.AUDIT_SET:
            return max(
                (self._audit_set(state, case, cohort) for cohort in range(len(self._cohorts))),
                key=lambda each: sum(f.own - max(0, f.others) for f in each.findings(rule, case)),
            )
        bag, real = self._opened(state, case), self._is_real(case.member)
        rounds = self._scored(bag)
        found = tuple(
            found_in(rule, e + 1, case.member, rounds[e * size : (e + 1) * size], {_AUDITOR: 1}) for e in epochs
        )
        found = tuple(Finding(f.epoch, real, f.loss, f.own, f.others) for f in found)
        return Auditor.signed(_DOMAIN, case, found, _AUDITOR_KEY)

    def _opened(self, state: State, case: Case) -> Bag:
        """The drawn records, held to the commitment, read back from their canonical bytes."""
        if case.member not in self._drawn:
            indices = draw(case.beacon, case.member, case.commitment, state.rule.evidence_records)
            opened = drawn_records(state.rule, case, self._holdouts[case.member].open(indices))
            raw = np.stack([np.frombuffer(record, "<f4") for record in opened])
            self._drawn[case.member] = (np.ascontiguousarray(raw[:, :-1]), raw[:, -1].astype(np.int64))
        return self._drawn[case.member]

    def _is_real(self, member: str) -> bool:
        return self._kind is Evidence.BLIND_AUDITOR or self._federation.roles[member] != "invent"

    def _scored(self, bag: Bag) -> list[RoundFacts]:
        """Every archived round on one bag of records, with the auditor as the only judge."""
        return [
            RoundFacts(frozenset(models.without), self._federation.scores(models, [(_AUDITOR, bag)]))
            for models in self._federation.archive
        ]

    def _audit_set(self, state: State, case: Case, cohort: int) -> AuditSet:
        """The set as the validators score it: the same records and models, so the same losses."""
        bag, holdout = self._federation.deal.audit[cohort], self._cohorts[cohort]
        rounds = self._scored(bag)
        judges = frozenset(state.active) - {case.member}
        scored = [RoundFacts(r.included, dict.fromkeys(judges, r.scores[_AUDITOR])) for r in rounds]
        openings = tuple(holdout.open(range(holdout.commitment.records)))
        return AuditSet(holdout.commitment, openings, tuple(scored), state.active)


def _canonical(bag: Bag) -> list[bytes]:
    """A record as its features and its label, little-endian float32."""
    return [np.append(x, np.float32(label)).astype("<f4").tobytes() for x, label in zip(*bag, strict=True)]
