"""Leader election by a Lease (client-go's durations); who loses it ends the process."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger(__name__)

LEASE_NAME = "covey-operator"
LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 15, 10, 2


class LeaseLostError(RuntimeError):
    """Another instance may be working now: this one must stop at once."""


class PatientLeaseLock(LeaseLock):
    """A lock for which an API server that does not answer is one more failed try; the library would give up."""

    async def get(self, name: str, namespace: str) -> Any:  # noqa: ANN401 (the library's own union)
        """Read the Lease: (True, record) or (False, error)."""
        try:
            return await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create the Lease; the library's own `create` passes an argument that its client refuses (37.0)."""
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("cannot create the Lease: %s", error)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renew or take over the Lease."""
        try:
            return await super().update(name, namespace, updated_record)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("cannot renew the Lease: %s", error)
            return False


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

    lock = PatientLeaseLock(LEASE_NAME, namespace, identity, api)
    config = Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, started, stopped)
    await LeaderElection(config).run()
