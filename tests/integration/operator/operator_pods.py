"""Plays the kubelet and the validators for tests of tasks, and waits for objects."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web
from covey_dev.podstatus import running
from covey_operator.kinds import (
    POD,
    SUBNET,
)

HEAD_IP = "127.77.3.1"  # an address of loopback: the test plays the validator there


async def joined(cluster, member, **subnet):
    """A member whose Subnet is Ready."""
    site = await member()
    cluster.apply(site.subnet(**subnet))
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    return site


async def exists(cluster, kind, namespace, name):
    return await cluster.until(f"{kind.kind} {name}", lambda: cluster.get(kind, namespace, name))


async def gone(cluster, kind, namespace, name, limit_seconds=30.0):
    async def check():
        return await cluster.get(kind, namespace, name) is None

    await cluster.until(f"{kind.kind} {name} gone", check, limit_seconds)


def ended(messages, exit_code):
    """Status of a pod whose containers have ended, with their termination messages."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}],
        "containerStatuses": [
            {
                "name": name,
                "image": "i",
                "imageID": "i",
                "ready": False,
                "restartCount": 0,
                "state": {
                    "terminated": {
                        "exitCode": exit_code,
                        "finishedAt": now,
                        "startedAt": now,
                        "message": json.dumps(message),
                    }
                },
            }
            for name, message in messages.items()
        ],
    }


@asynccontextmanager
async def validator_at(ip, answer):
    """Something that answers like a validator's status port."""

    async def status(_):
        return web.json_response(answer)

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, ip, 9464).start()
        yield
    finally:
        await runner.cleanup()


async def start_pods(cluster, namespace, task, ip):
    """Play the kubelet until head and workers are ready."""
    await exists(cluster, POD, namespace, f"{task}-head")
    cluster.set_pod_status(namespace, f"{task}-head", running(ip, ["ray-head", "validator"]))
    for index in range(2):
        await exists(cluster, POD, namespace, f"{task}-worker-{index}")
        cluster.set_pod_status(namespace, f"{task}-worker-{index}", running("127.77.3.9", ["ray-worker"]))
