"""What the rule remembers from round to round, and what it owes to whom; pure, from certified facts only.

Rewards follow the final direction of the model, which nobody knows before the end. Not to leave members with nothing
until then, half of what each would get if the task ended now is credited after every epoch. What is credited is never
taken back; a member from which something is held is credited no more until it is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from covey_chain.penalties import encode
from covey_chain.types import Penalty

from covey_validator import scoring
from covey_validator.incentives import rule as rules
from covey_validator.incentives.appeal import Filed, Stage
from covey_validator.incentives.docket import Docket
from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.geometry import Gram
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.members import Account
from covey_validator.incentives.rule import Decision, Settled, State
from covey_validator.incentives.sources import Source
from covey_validator.incentives.terms import Rule
from covey_validator.plateau import Plateau

_CREDITED_AT_ONCE = 2  # one part in so many; the rest waits for the final direction


@dataclass(frozen=True)
class Book:
    """The rule's memory of one task.

    Attributes:
        state: accounts of all members.
        bounty: base units.
        rounds: of the task, at most.
        plateau: how long the model has not got better, which may end the task before.
        places: member -> where the contract lists it.
        credited: member -> reward until now, in base units; never shrinks.
        epoch: facts of the rounds since the last epoch was closed.
        decisions: member -> what the newest epoch meant for it.
        settled: member -> what the task comes to, after the last round.
        touched: members that were ever penalised.
        heard: block up to which appeals and verdicts have counted.
        evidence: whose word counts on appeals; None for nobody's.
    """

    state: State
    bounty: int
    rounds: int
    places: Mapping[str, int]
    credited: Mapping[str, int]
    plateau: Plateau = field(default_factory=Plateau)
    epoch: tuple[RoundFacts, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    settled: Mapping[str, Settled] = field(default_factory=dict)
    touched: frozenset[str] = frozenset()
    heard: int = 0
    evidence: Source | None = None

    @classmethod
    def open(
        cls,
        rule: Rule,
        stakes: Mapping[str, int],
        places: Mapping[str, int],
        bounty: int,
        rounds: int,
        evidence: Source | None = None,
        patience: int | None = None,
    ) -> Book:
        """Before the first round."""
        credited, plateau = dict.fromkeys(stakes, 0), Plateau(patience)
        return cls(State.start(rule, stakes), bounty, rounds, places, credited, plateau, evidence=evidence)

    @property
    def active(self) -> frozenset[str]:
        """Members whose updates and scores count."""
        return frozenset(self.state.active)

    @property
    def clips(self) -> dict[str, int]:
        """Proven minorities -> median norms that their updates may have."""
        return self.state.clips

    def ends(self, round_number: int, facts: RoundFacts, accepted: bool) -> bool:
        """Whether the task ends with this round: it is the last one, or the model has long not got better."""
        return round_number == self.rounds or self._learnt(facts, accepted).is_over

    def closes(self, round_number: int, facts: RoundFacts, accepted: bool) -> bool:
        """Whether an epoch, or the task, ends with this round: then `after` needs the inner products."""
        return round_number % self.state.rule.epoch_rounds == 0 or self.ends(round_number, facts, accepted)

    def hears(self, facts: RoundFacts) -> int:
        """Block up to which what the chain says of appeals counts, if an epoch ends with this round."""
        return max(self.heard, scoring.height_of(facts.scores, self.state.active))

    def after(
        self,
        round_number: int,
        facts: RoundFacts,
        accepted: bool,
        gram: Gram | None = None,
        docket: Docket | None = None,
    ) -> Book:
        """Take in a certified round.

        Args:
            round_number: from 1.
            facts: of this round.
            accepted: whether its candidate became the model.
            gram: inner products of all that the members have made of the model, this round included if it was
                accepted; where `closes`.
            docket: appeals and verdicts as of the block that `hears` names; where `closes`, and there is evidence.

        Raises:
            ValueError: no inner products where an epoch ends.
        """
        seen, plateau = (*self.epoch, facts), self._learnt(facts, accepted)
        if not self.closes(round_number, facts, accepted):
            return replace(self, state=rules.after_round(self.state, round_number), plateau=plateau, epoch=seen)
        if gram is None:
            raise ValueError(f"an epoch ends with round {round_number}, and no inner products are given")
        state, decisions = self.state, dict(self.decisions)
        # Of fewer rounds than an epoch has, noise says more than work: the rest of a task is paid for and not judged.
        if len(seen) == state.rule.epoch_rounds:
            said = self._heard(docket)
            state, decisions = rules.close_epoch(_filed(state, said, round_number), seen, gram, said)
        flagged = {site for site, account in state.accounts.items() if account.held or account.burnt}
        state = rules.after_round(state, round_number)
        settled = rules.settle(state, gram, self.bounty, round_number)
        heard = self.heard if docket is None else docket.height
        touched = self.touched | flagged
        book = replace(self, state=state, plateau=plateau, epoch=(), decisions=decisions, touched=touched, heard=heard)
        wanted = {site: found.reward for site, found in settled.items()}
        if self.ends(round_number, facts, accepted):
            return replace(book, settled=settled, credited=no_less(self.bounty, wanted, self.credited))
        return replace(book, credited=self._credit(round_number, wanted, state.accounts))

    def _learnt(self, facts: RoundFacts, accepted: bool) -> Plateau:
        active = self.state.active
        scores = {site: found for site, found in facts.scores.items() if site in active}
        base, left = (scoring.median_loss(scores, active, candidate) for candidate in (False, accepted))
        return self.plateau.after(base, left)

    def _heard(self, docket: Docket | None) -> dict[str, tuple[Finding, ...]]:
        """Member -> evidence of the epochs that are over, the one included that ends now."""
        if docket is None or self.evidence is None:
            return {}
        said = self.evidence.heard(docket, self.state.epoch + 1, self.state.active)
        return {member: found for member, found in said.items() if member in self.state.accounts}

    def _credit(self, round_number: int, wanted: Mapping[str, int], accounts: Mapping[str, Account]) -> dict[str, int]:
        earned = {
            site: amount * round_number // (_CREDITED_AT_ONCE * self.rounds)
            for site, amount in wanted.items()
            if not accounts[site].held and accounts[site].removed is None
        }
        credited = {site: max(before, earned.get(site, 0)) for site, before in self.credited.items()}
        return credited if sum(credited.values()) <= self.bounty else dict(self.credited)

    def penalties(self) -> dict[str, Penalty]:
        """Every member that was ever penalised -> what that comes to now, in the order of their places."""
        found = {}
        for site in sorted(self.touched, key=lambda site: self.places[site]):
            account, end = self.state.accounts[site], self.settled.get(site)
            held, slashed = (end.pending, end.slashed) if end else (account.held, account.burnt)
            removed, waits = account.removed is not None, end is not None and held > 0
            found[site] = Penalty(self.places[site], removed, waits, held, slashed)
        return found

    def ledger(self) -> bytes:
        """The same as the contract reads it."""
        return encode(list(self.penalties().values()))

    def words(self, site: str) -> str:
        """What became of a member's stake and reward, and why; empty before the first epoch has ended."""
        if site in self.settled:
            return self.settled[site].reason
        return self.decisions[site].reason if site in self.decisions else ""


def _filed(state: State, members: Iterable[str], round_number: int) -> State:
    """With the appeals of those who have not appealed before."""
    for member in members:
        if state.accounts[member].appeal.stage is Stage.NONE:
            state = state.with_appeal(member, Filed(round_number))
    return state


def no_less(pool: int, wanted: Mapping[str, int], floor: Mapping[str, int]) -> dict[str, int]:
    """Divide what is wanted so that nobody gets less than its floor, and all together no more than the pool.

    Who has more credit than it wants keeps it; the others share the rest in proportion to what they want.
    """
    short: set[str] = set()
    while True:
        rest = min(pool, max(sum(wanted.values()), sum(floor.values()))) - _sum(floor, short)
        free = {site: wanted.get(site, 0) for site in floor if site not in short}
        total = sum(free.values())
        shares = {site: rest * amount // total if total else 0 for site, amount in free.items()}
        below = {site for site, share in shares.items() if share < floor[site]}
        if not below:
            return {site: floor[site] if site in short else shares[site] for site in floor}
        short |= below


def _sum(of: Mapping[str, int], sites: Iterable[str]) -> int:
    return sum(of[site] for site in sites)
