"""Leader election by a Lease; who loses it stops all work, who ends in order gives it back.

The times are client-go's. A standby has the Lease of a leader that was killed at most `LEASE_SECONDS` and one retry
after the last renewal: within 17 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, CoordinationV1Api, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger(__name__)

LEASE_NAME = "covey-operator"
LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 15, 10, 2
REQUEST_SECONDS = 3  # a connection that hangs must not outlast the Lease
GIVE_UP_SECONDS = 14  # after the last renewal, whatever hangs: before a standby may have it


class LeaseLostError(RuntimeError):
    """Another instance may be working now: this one must stop at once."""


class PatientLeaseLock(LeaseLock):
    """A lock for which an API server that does not answer is one more failed try; the library would give up.

    `on_held` is called after each success with the time (the event loop's clock, seconds) at which it was asked for.
    """

    def __init__(
        self, name: str, namespace: str, identity: str, api: ApiClient, on_held: Callable[[float], None]
    ) -> None:
        super().__init__(name, namespace, identity, api)
        self._on_held = on_held

    async def get(self, name: str, namespace: str) -> Any:  # noqa: ANN401 (the library's own union)
        """Read the Lease: (True, record) or (False, error)."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create the Lease; the library's own `create` passes an argument that its client refuses (37.0)."""
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        asked = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("cannot create the Lease: %s", error)
            return False
        self._on_held(asked)
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renew or take over the Lease."""
        asked = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                renewed = await super().update(name, namespace, updated_record)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("cannot renew the Lease: %s", error)
            return False
        if renewed:
            self._on_held(asked)
        return renewed


async def hold_lease(api: ApiClient, namespace: str, identity: str, leading: asyncio.Event) -> None:
    """Wait for the Lease, set `leading`, and renew for ever.

    Raises:
        LeaseLostError: the Lease could not be renewed in time.
    """

    async def started() -> None:
        log.info("holding Lease %s/%s as %s", namespace, LEASE_NAME, identity)
        leading.set()

    async def stopped() -> None:
        raise LeaseLostError(f"Lease {namespace}/{LEASE_NAME} could not be renewed within {RENEW_SECONDS} s")

    try:
        async with asyncio.timeout(None) as patience:
            lock = PatientLeaseLock(
                LEASE_NAME, namespace, identity, api, lambda asked: patience.reschedule(asked + GIVE_UP_SECONDS)
            )
            config = Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, started, stopped)
            await LeaderElection(config).run()
    except TimeoutError as error:
        raise LeaseLostError(
            f"Lease {namespace}/{LEASE_NAME} could not be renewed: {GIVE_UP_SECONDS} s over"
        ) from error


async def give_back(api: ApiClient, namespace: str, identity: str) -> None:
    """Tell a standby that it need not wait; to be called when nothing works any more. What fails costs only time."""
    leases = CoordinationV1Api(api)
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            lease = await leases.read_namespaced_lease(LEASE_NAME, namespace)
            if lease.spec is None or lease.spec.holder_identity != identity:
                return
            lease.spec.holder_identity = None
            await leases.replace_namespaced_lease(LEASE_NAME, namespace, lease)
    except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning("cannot give the Lease back: %s", error)
