"""What a standby does while another has the Lease: it follows the chains, so that it could begin at once.

It reads Subnets and contracts, and writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import aiohttp
from covey_chain.errors import ChainError
from kubernetes.aio.client.exceptions import ApiException

from covey_operator.controller import Pulse
from covey_operator.kinds import SUBNET, Key, key_of
from covey_operator.news import Interest
from covey_operator.parse import parse_subnet
from covey_operator.world import World

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # after this a new Subnet's chain is followed


async def stand_by(world: World, leading: asyncio.Event, pulse: Pulse) -> None:
    """Follow the chains of all Subnets until this process leads.

    A look is carried out to its end also when the Lease comes meanwhile: passes want the same.
    """
    followed: set[Key] = set()
    while not leading.is_set():
        followed = await _follow(world, followed)
        pulse.warm = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await leading.wait()


async def _follow(world: World, before: set[Key]) -> set[Key]:
    """Make sure of a mirror for each Subnet; those that have gone are forgotten."""
    found: set[Key] = set()
    try:
        for namespace in world.settings.watch_namespaces or (None,):
            async for obj in world.kube.each(SUBNET, namespace):
                found.add(key_of(obj))
                subnet = parse_subnet(obj)
                if subnet.spec is None:
                    continue
                mirror = world.chains.mirror(subnet.spec.chain)
                mirror.subscribe(key_of(obj), Interest(subnet.spec.consortium, ""))
                with suppress(ChainError):  # the mirror tries again by itself
                    await mirror.view(subnet.spec.consortium)
        for key in before - found:
            await world.chains.forget(key)
    except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning("a standby cannot list Subnets: %s", error)
        return before
    return found
