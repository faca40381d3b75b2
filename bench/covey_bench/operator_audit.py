"""What the API server's audit log says: who asked how often, who wrote, and when objects were made."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

READS = ("get", "list", "watch")
LEASES = "leases"
_POD = re.compile(r"^(?P<task>.+)-(?:head|worker-\d+)$")


@dataclass(frozen=True)
class Request:
    """One request that has been answered; times are seconds since the epoch."""

    user: str
    verb: str
    resource: str
    name: str
    code: int
    received: float
    answered: float

    @property
    def writes(self) -> bool:
        """Whether it was to change something other than a Lease, whose holder renews it for ever."""
        return self.verb not in READS and self.resource != LEASES


def requests(directory: Path) -> Iterator[Request]:
    """All answered requests in the audit logs of a directory, the logs that were put aside at 100 MB included."""
    for path in sorted(directory.glob("audit*.jsonl")):
        with path.open() as lines:
            for line in lines:
                event = json.loads(line)
                if event["stage"] != "ResponseComplete":
                    continue
                about = event.get("objectRef") or {}
                resource = about.get("resource", "")
                if about.get("subresource"):
                    resource += f"/{about['subresource']}"
                yield Request(
                    user=event["user"].get("username", ""),
                    verb=event["verb"],
                    resource=resource,
                    name=about.get("name", ""),
                    code=event.get("responseStatus", {}).get("code", 0),
                    received=_seconds(event["requestReceivedTimestamp"]),
                    answered=_seconds(event["stageTimestamp"]),
                )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True)
class Window:
    """A stretch of time, in seconds since the epoch."""

    first: float
    last: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.last - self.first

    def has(self, request: Request) -> bool:
        """Whether a request was received in it."""
        return self.first <= request.received < self.last


@dataclass(frozen=True)
class Traffic:
    """What one account asked in a window, by verb and resource."""

    window: Window
    by_kind: Counter[str]
    writes: int
    lease_writes: int

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.by_kind.total() / self.window.seconds


def traffic(found: list[Request], user: str, window: Window) -> Traffic:
    """Count what an account asked; a write of no effect counts too."""
    asked = [request for request in found if request.user == user and window.has(request)]
    return Traffic(
        window,
        Counter(f"{request.verb} {request.resource}" for request in asked),
        sum(request.writes for request in asked),
        sum(request.resource == LEASES and request.verb not in READS for request in asked),
    )


def applied_and_made(found: list[Request], pods: int) -> dict[str, tuple[float, float]]:
    """Task -> when its creation was received, and when the last of its `pods` pods had been made."""
    applied = {
        request.name: request.received
        for request in found
        if (request.resource, request.verb, request.code) == ("federatedtasks", "create", 201)
    }
    made: dict[str, list[float]] = {}
    for request in found:
        match = _POD.match(request.name) if (request.resource, request.code) == ("pods", 201) else None
        if match:
            made.setdefault(match["task"], []).append(request.answered)
    return {task: (when, max(made[task])) for task, when in applied.items() if len(made.get(task, ())) == pods}
