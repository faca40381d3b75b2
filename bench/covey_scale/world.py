"""One round of all members in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from covey_chain.types import RoundResult
from covey_validator.incentives.book import Book
from covey_validator.incentives.terms import Rule
from covey_validator.round_types import Certified, Phase, Setting
from covey_validator.verdict import Ledger
from eth_utils.address import to_checksum_address

from covey_scale.costs import Costs, Load, message_bytes
from covey_scale.lines import Clock, Host, Line, Pipe
from covey_scale.site import BASE, CODEC, TASK, Site, Timer

STAKE, POOL = 10**22, 10**22
END_SECONDS = 86_400.0


class NotDecided(RuntimeError):
    """The round has not ended within a day."""


@dataclass(frozen=True)
class Played:
    """What a round took.

    Attributes:
        result: the one that all certified.
        round_seconds: from the end of training until the last site is done.
        encode_seconds, exchange_seconds, merge_seconds, evaluate_seconds, scores_seconds, agreement_seconds: its parts
            (exchange: until every site has every update; scores: commitments and reveals; agreement: both, and the
            signatures under the result).
        bulk_bytes, control_bytes: sent by the site that sent most.
        copies: signed messages sent to a peer, by the site that sent most.
        cpu_seconds: of the busiest site: codec, bulk, messages, machine, merge, evaluations.
        machine_seconds: of them in the machine of the round.
        proposals: of all sites; two are enough when no view fails.
        slowest_update_seconds: between hearing of an update and having it, at worst.
    """

    result: RoundResult
    round_seconds: float
    encode_seconds: float
    exchange_seconds: float
    merge_seconds: float
    evaluate_seconds: float
    scores_seconds: float
    agreement_seconds: float
    bulk_bytes: int
    control_bytes: int
    copies: int
    cpu_seconds: float
    machine_seconds: float
    proposals: int
    slowest_update_seconds: float


def addresses(count: int) -> list[str]:
    """Names of so many members, in ring order."""
    names = (to_checksum_address(hashlib.sha256(bytes([i >> 8, i & 255])).digest()[:20]) for i in range(count))
    return sorted(names, key=str.lower)


class World:
    """Members on lines of one kind, all at the end of their training.

    Attributes:
        clock: virtual time; it stands still when everybody is done, whatever is still on its way.
        sites: by name.
    """

    def __init__(
        self,
        members: Sequence[str],
        line: Line,
        load: Load,
        costs: Costs,
        *,
        committee: Mapping[str, int] | None = None,
        relays: int | None = None,
        timer: Timer = lambda: 0.0,
    ) -> None:
        """Nothing happens before `play`.

        Args:
            members: all of them have an update, and get those of all others.
            line: everybody's.
            load: model and update.
            costs: CPU seconds.
            committee: votes by name of those who vote and score; None for all alike, as built. The others get the
                certified result from one of these, with the signatures that certify it.
            relays: see `Gossip`.
            timer: for the CPU time of the machine's steps.
        """
        self.clock = Clock()
        self._load, self._costs, self._line, self._timer = load, costs, line, timer
        self._random = Random(1)
        self._relays = relays
        self._members = list(members)
        self._votes = dict(committee or dict.fromkeys(members, STAKE))
        self.sites = {name: self._site(name) for name in members}
        order = list(self.sites.values())
        for site, successor in zip(order, order[1:] + order[:1], strict=True):
            if site is not successor:
                site.ring.join(successor.ring)
        for name in self._votes:
            site = self.sites[name]
            site.setting = self._setting(name)
            for other in (self.sites[voter] for voter in self._votes if voter != name):
                site.gossip.link(other.name, site.host, other.host, other.gossip, name)

    def play(self) -> Played:
        """One round to its end.

        Raises:
            NotDecided: it has none, or not one for all.
        """
        for site in self.sites.values():
            self.clock.after(0.0, site.begin)
        voters = [self.sites[name] for name in self._votes]
        self.clock.run(lambda: all(site.certified for site in voters), END_SECONDS)
        results = {site.certified.verdict.result for site in voters if site.certified}
        if len(results) != 1 or not all(site.certified for site in voters):
            raise NotDecided(f"{sum(s.certified is not None for s in voters)} of {len(voters)} have a result")
        self._tell_others(voters)
        self.clock.run(lambda: all(site.ended_at is not None for site in self.sites.values()), END_SECONDS)
        return self._played(results.pop(), voters)

    # --- setting up -------------------------------------------------------------------------------------------------

    def _site(self, name: str) -> Site:
        return Site(
            name, Host(self.clock, self._line), self._costs, self._load, self._timer, self._relays, self._random
        )

    def _setting(self, name: str) -> Setting:
        places = {member: place for place, member in enumerate(self._votes)}
        book = Book.open(Rule(), self._votes, places, POOL, rounds=2)
        return Setting(
            task_id=TASK,
            round=1,
            site=name,
            ledger=Ledger(self._votes, Fraction(1, 100), book),
            trainers=frozenset(self._members),
            validators=frozenset(self._votes),
            min_updates=len(self._members),
            base=BASE,
            codec=CODEC,
            salt=hashlib.sha256(name.encode()).digest(),
        )

    # --- the end ----------------------------------------------------------------------------------------------------

    def _tell_others(self, voters: list[Site]) -> None:
        """Members without a vote get the certificate, and step to the model that it names."""
        seconds = self._load.merge_seconds(self._costs, len(self._members))
        others = [site for site in self.sites.values() if site.certified is None]
        for number, other in enumerate(others):
            teller = voters[number % len(voters)]
            certified = teller.certified
            assert certified is not None
            size = certificate_bytes(certified, len(self._members))
            teller.gossip.bytes_sent += size
            teller.gossip.copies += 1
            Pipe[None](teller.host, other.host, _then(other, seconds)).send(size, None)

    def _played(self, result: RoundResult, voters: list[Site]) -> Played:
        sites = list(self.sites.values())

        def last(phase: Phase) -> float:
            return max(site.entered[phase] for site in voters)

        everything = max(site.updates_at for site in sites)
        encoded = max(site.encoded_at for site in sites)
        end = max(site.ended_at or 0.0 for site in sites)
        votes = (last(Phase.MERGING) - last(Phase.AGREEING_UPDATES)) + (
            last(Phase.CERTIFIED) - last(Phase.AGREEING_SCORES)
        )
        return Played(
            result=result,
            round_seconds=end,
            encode_seconds=encoded,
            exchange_seconds=everything - encoded,
            merge_seconds=last(Phase.EVALUATING) - last(Phase.MERGING),
            evaluate_seconds=last(Phase.SCORING) - last(Phase.EVALUATING),
            scores_seconds=last(Phase.AGREEING_SCORES) - last(Phase.SCORING),
            agreement_seconds=votes,
            bulk_bytes=max(site.ring.bytes_sent for site in sites),
            control_bytes=max(site.gossip.bytes_sent for site in sites),
            copies=max(site.gossip.copies for site in sites),
            cpu_seconds=max(site.loop.used_seconds + site.pool.used_seconds for site in sites),
            machine_seconds=max(site.step_seconds for site in sites),
            proposals=sum(site.proposals for site in sites),
            slowest_update_seconds=max(site.slowest_update_seconds for site in sites),
        )


def certificate_bytes(certified: Certified, members: int) -> int:
    """What proves a result to somebody who has not voted: the signatures, and which updates it stands for."""
    return sum(message_bytes(message.envelope) for message in certified.signatures) + 52 * members


def _then(site: Site, seconds: float) -> Callable[[list[None]], None]:
    def end() -> None:
        site.ended_at = site.clock.now

    return lambda _: site.pool.run(seconds, end)
