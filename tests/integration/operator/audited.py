"""What the operator has written, by the audit log of the API server."""

from __future__ import annotations

import asyncio

READS = ("get", "list", "watch")


def writes_of_the_operator(events, namespaces):
    """What the operator has written in some namespaces, as (verb, address)."""
    return [
        (event["verb"], event["requestURI"])
        for event in events
        if event["verb"] not in READS
        and "covey-operator" in event["user"]["username"]
        and (event.get("objectRef") or {}).get("namespace") in namespaces
    ]


async def at_rest(api_server, namespaces):
    """Wait until the chain's last block and the last event have settled: two seconds in which nothing is written."""
    quiet_since, end, written = 0, api_server.audit_size(), []
    for _ in range(120):
        await asyncio.sleep(0.5)
        begin, end = end, api_server.audit_size()
        new = writes_of_the_operator(api_server.audit(begin), namespaces)
        written = new or written
        quiet_since = 0 if new else quiet_since + 1
        if quiet_since == 4:
            return
    raise AssertionError(f"the operator still writes after a minute: {written}")
