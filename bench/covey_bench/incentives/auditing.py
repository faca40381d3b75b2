"""Members that are flagged appeal at once, attackers too; an auditor, or the Planner's audit set, answers."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import numpy as np
from covey_validator.incentives import appeal as appeals
from covey_validator.incentives.appeal import Stage
from covey_validator.incentives.cases import Case, drawn_records, found_in, on_set, pack
from covey_validator.incentives.docket import Deposition, Docket, Filed, Verdict
from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.holdout import Holdout, draw
from covey_validator.incentives.rule import State
from covey_validator.incentives.sources import Auditor, AuditSets

from covey_bench.incentives.data import Bag
from covey_bench.incentives.federation import Federation

_JUDGE = "judge"
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
        """What the evidence says of all who have appealed, all epochs so far; read as every site would."""
        here = [site for site in self._cases if state.accounts[site].removed is None]
        epoch = len(self._federation.archive) // state.rule.epoch_rounds
        if self._kind is Evidence.AUDIT_SET:
            depositions = [each for site in here for each in self._measured(state, site, epoch)]
            docket = Docket(1, depositions=tuple(depositions))
            sets = AuditSets(tuple(holdout.commitment for holdout in self._cohorts))
            return sets.heard(docket, epoch, state.active)
        commitments = {site: self._cases[site].commitment for site in here}
        filed = {site: Filed(1, self._cases[site].beacon) for site in here}
        verdicts = tuple(self._verdict(state, site, epoch) for site in here) if epoch else ()
        return Auditor().heard(Docket(1, commitments, filed, verdicts), epoch, state.active)

    def _verdict(self, state: State, site: str, epoch: int) -> Verdict:
        """An auditor's word, who sees the records that were drawn."""
        case = self._cases[site]
        findings = pack(case, self._found(state, site, self._opened(state, case), epoch))
        return Verdict(1, site, epoch, self._is_real(site), findings)

    def _measured(self, state: State, site: str, epoch: int) -> list[Deposition]:
        """What the members say on every cohort's set: the same records and models, so the same losses."""
        said = []
        for bag, holdout in zip(self._federation.deal.audit, self._cohorts, strict=True):
            case = on_set(_TASK, site, 0, holdout.commitment)
            findings = pack(case, self._found(state, site, bag, epoch))
            said += [Deposition(1, judge, site, epoch, findings) for judge in state.active if judge != site]
        return said

    def _found(self, state: State, site: str, bag: Bag, epochs: int) -> list[Finding]:
        """What an archived round's models lose on a bag of records, with one judge."""
        rule, rounds = state.rule, self._scored(bag)
        size = rule.epoch_rounds
        return [found_in(rule, e + 1, site, rounds[e * size : (e + 1) * size], {_JUDGE: 1}) for e in range(epochs)]

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
            RoundFacts(frozenset(models.without), self._federation.scores(models, [(_JUDGE, bag)]))
            for models in self._federation.archive
        ]


def _canonical(bag: Bag) -> list[bytes]:
    """A record as its features and its label, little-endian float32."""
    return [np.append(x, np.float32(label)).astype("<f4").tobytes() for x, label in zip(*bag, strict=True)]
