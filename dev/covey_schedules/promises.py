"""What must hold in every schedule."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from covey_chain.types import Proposal, Vote
from covey_exchange.agreement import MAX_VIEWS_AHEAD
from covey_exchange.agreement_types import EPOCH_VIEWS, NIL, PRECOMMIT, Certificate, Equivocation

from covey_schedules.telling import slot

if TYPE_CHECKING:
    from covey_schedules.site import Site
    from covey_schedules.world import World


class BrokenPromise(AssertionError):
    """A promise does not hold; says which, and how to see it again."""

    def __init__(self, world: World, promise: str) -> None:
        self.promise = promise
        setting = world.setting
        machine = "" if world.machine.name == "sound" else f" --machine {world.machine.name}"
        super().__init__(
            f"{promise} ({len(setting.weights)} sites, {len(setting.liars)} lying, after {world.now:.1f} s); "
            f"replay: .venv/bin/python -m covey_schedules replay {setting.seed}{machine}"
        )


def check_signing(world: World, site: Site, message: Proposal | Vote) -> None:
    """No honest site signs twice for one slot, whatever it forgot; nor in another's name, nor what it cannot show."""
    if message.site != site.name:
        raise BrokenPromise(world, "a site signed in another's name")
    if world.signed(slot(message)) not in (None, message):
        raise BrokenPromise(world, "an honest site signed twice for one slot")
    if message.view < site.left * EPOCH_VIEWS:
        raise BrokenPromise(world, "a site signed in an epoch that it had left")
    if isinstance(message, Proposal) and message.value not in site.known:
        raise BrokenPromise(world, "a site proposed a value whose bytes it does not have")
    locked = site.state.locked_value
    leaves_lock = isinstance(message, Vote) and NIL not in (locked, message.value) and locked != message.value
    world.seen["unlocked by proof"] += leaves_lock


def check_decision(world: World, certificate: Certificate) -> None:
    """One value at all sites, and a valid one."""
    if world.decided not in (None, certificate.value):
        raise BrokenPromise(world, "two certificates")
    if certificate.value not in world.values:
        raise BrokenPromise(world, "a certificate for an invalid value")
    world.seen["decided in a later view"] += certificate.view > 0
    world.seen["decided in a later epoch"] += certificate.view >= EPOCH_VIEWS


def _check_proof(world: World, certificate: Certificate) -> None:
    """Genuine precommits of more than two thirds of the stake that counts in the view, each site once."""
    weights = world.register.active(certificate.view // EPOCH_VIEWS)
    signers = [vote.message.site for vote in certificate.precommits]
    fits = all(
        isinstance(vote.message, Vote)
        and (vote.message.kind, vote.message.view, vote.message.value)
        == (PRECOMMIT, certificate.view, certificate.value)
        and world.signatures.is_genuine(vote)
        for vote in certificate.precommits
    )
    proven = 3 * sum(weights[signer] for signer in signers) > 2 * sum(weights.values())
    if not fits or not proven or sorted(set(signers)) != signers:
        raise BrokenPromise(world, "a certificate that proves nothing")


def check_accusation(world: World, proof: Equivocation) -> None:
    """Whoever is accused lies, and two conflicting messages that it signed prove it."""
    first, second = proof.first, proof.second
    if first.message.site not in world.setting.liars:
        raise BrokenPromise(world, "an honest site was accused")
    conflict = slot(first.message) == slot(second.message) and first.message != second.message
    if not conflict or not world.signatures.is_genuine(first) or not world.signatures.is_genuine(second):
        raise BrokenPromise(world, "an accusation that proves nothing")
    world.seen["accusations"] += 1


def check_end(world: World) -> None:
    """All have decided and can prove it; whoever saw two messages for one slot has accused their site."""
    if any(site.certificate is None for site in world.sites.values() if world.returns(site.name)):
        raise BrokenPromise(world, "no progress")
    for certificate in world.certificates:
        _check_proof(world, certificate)
    for site in world.sites.values():
        said: defaultdict[tuple[str, int, int], set[Proposal | Vote]] = defaultdict(set)
        for number in site.log:
            message = world.messages[number].message
            epoch, view = divmod(message.view, EPOCH_VIEWS)
            if view > MAX_VIEWS_AHEAD or epoch > len(site.epochs):
                continue
            if message.site in world.setting.liars and message.site in world.register.sets[epoch]:
                said[slot(message)].add(message)
        caught = {who for (who, _, _), messages in said.items() if len(messages) > 1}
        if not caught <= site.accused:
            raise BrokenPromise(world, "a site saw two messages for one slot and kept quiet")
        world.seen["deep views"] += site.state.view % EPOCH_VIEWS > 5
