"""What a kubelet would write into a pod's status, where there is none."""

from __future__ import annotations

from datetime import UTC, datetime


def running(ip: str, containers: list[str], ready: bool = True) -> dict[str, object]:
    """Status of a pod that runs, as a kubelet would write it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": now}],
        "containerStatuses": [
            {
                "name": name,
                "image": "i",
                "imageID": "i",
                "ready": ready,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for name in containers
        ],
    }
