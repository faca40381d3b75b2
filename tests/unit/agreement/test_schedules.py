"""Hundreds of seeded schedules: never two certificates, always progress once the network heals."""

from __future__ import annotations

import pytest
from agreement_simulator import END_SECONDS, World


def check(world: World) -> None:
    replay = f"replay: World(seed={world.seed}, sites={len(world.weights)}, liars={len(world.liars)})"
    world.run()
    decided = {site.certificate.value for site in world.sites.values() if site.certificate}
    assert len(decided) <= 1, f"two certificates; {replay}"
    assert world.all_decided(), f"no progress within {END_SECONDS} s of simulated time; {replay}"
    assert world.accused <= set(world.liars), f"an honest site was accused; {replay}"
    total = sum(world.weights.values())
    for site in world.sites.values():
        assert site.certificate is not None
        signers = [received.message.site for received in site.certificate.precommits]
        assert len(set(signers)) == len(signers), replay
        assert 3 * sum(world.weights[signer] for signer in signers) > 2 * total, replay


@pytest.mark.parametrize("sites", [3, 4, 5, 6, 7])
def test_loss_reordering_duplication_partitions_and_crashes(sites: int):
    for seed in range(100):
        check(World(seed, sites))


@pytest.mark.parametrize("sites", [4, 5, 7])
def test_less_than_a_third_of_the_stake_lies(sites: int):
    for seed in range(60):
        check(World(seed, sites, liars=2))


def test_every_equivocation_that_reaches_a_site_is_found():
    worlds = [World(seed, 7, liars=2, loss=0.0, crashes=0) for seed in range(20)]
    for world in worlds:
        check(world)
    assert any(world.accused for world in worlds)
