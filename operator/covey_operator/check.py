"""`python -m covey_operator.check`: is the release that Helm installed at work? What `helm test` runs in a pod.

It asks the API server only, under an account that may read one Deployment and one Lease.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated

import aiohttp
from kubernetes.aio.client import ApiClient, CustomObjectsApi
from kubernetes.aio.client.exceptions import ApiException
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from covey_operator.keys import utc_now
from covey_operator.kinds import SUBNET, TASK, Kind, Object
from covey_operator.kube import NOT_FOUND, Kube
from covey_operator.lease import LEASE_NAME, LEASE_SECONDS
from covey_operator.metrics import Metrics
from covey_operator.run import connect

DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
_EVERY_SECONDS = 1.0


class CheckSettings(BaseSettings):
    """What the check is told by its environment (`COVEY_…`)."""

    model_config = SettingsConfigDict(env_prefix="COVEY_", frozen=True, extra="ignore")

    namespace: Annotated[str, Field(min_length=1, description="Of the release.")]
    deployment: Annotated[str, Field(min_length=1, description="Name of the operator's Deployment.")]
    check_seconds: Annotated[float, Field(ge=0, description="How long it may take until all is well.")] = 60


def problems(served: Iterable[str], deployment: Object, lease: Object, now: datetime) -> list[str]:
    """What is wrong, for a person; empty when the operator is at work.

    Args:
        served: plural names of the resources that the API server serves in the operator's API group.
        deployment: apps/v1 Deployment of the operator.
        lease: coordination.k8s.io/v1 Lease by which one replica works; empty where there is none.
        now: with time zone.
    """
    found = [
        f"the API server does not serve {kind.plural}.{kind.group}: install the definitions (crds.enabled)"
        for kind in (SUBNET, TASK)
        if kind.plural not in served
    ]
    wanted = deployment["spec"]["replicas"]
    status = deployment.get("status") or {}
    ready = min(status.get("readyReplicas") or 0, status.get("updatedReplicas") or 0)
    if ready < wanted or (status.get("observedGeneration") or 0) < deployment["metadata"]["generation"]:
        found.append(f"{ready} of {wanted} pods of the operator are ready: see kubectl describe pods, and their logs")
    spec = lease.get("spec") or {}
    renewed = spec.get("renewTime")
    if not spec.get("holderIdentity") or renewed is None:
        found.append(f"nobody holds the Lease {LEASE_NAME}: see the operator's log")
    elif now - datetime.fromisoformat(renewed) > timedelta(seconds=LEASE_SECONDS):
        found.append(f"{spec['holderIdentity']} has not renewed the Lease {LEASE_NAME} since {renewed}")
    return found


async def check(api: ApiClient, settings: CheckSettings) -> list[str]:
    """Look until nothing is wrong any more or the time is over; returns what is wrong then."""
    deadline = time.monotonic() + settings.check_seconds
    while True:
        try:
            found = await _look(api, settings)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            found = [f"the API server does not answer as it should: {error}"]
        if not found or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_EVERY_SECONDS)


async def _look(api: ApiClient, settings: CheckSettings) -> list[str]:
    kube = Kube(api, Metrics(), "check")
    deployment = await kube.get(DEPLOYMENT, settings.namespace, settings.deployment)
    if deployment is None:
        return [f"there is no Deployment {settings.namespace}/{settings.deployment}"]
    lease = await kube.get(LEASE, settings.namespace, LEASE_NAME)
    return problems(await _served(api), deployment, lease or {}, utc_now())


async def _served(api: ApiClient) -> list[str]:
    try:
        listed = await CustomObjectsApi(api).get_api_resources(SUBNET.group, SUBNET.version)
    except ApiException as error:
        if error.status == NOT_FOUND:
            return []
        raise
    return [resource.name for resource in listed.resources]


async def _main(settings: CheckSettings) -> int:
    api = await connect()
    try:
        found = await check(api, settings)
    finally:
        await api.close()  # type: ignore[no-untyped-call]
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print("the definitions are served, and the operator is ready and holds its Lease")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(CheckSettings())))
