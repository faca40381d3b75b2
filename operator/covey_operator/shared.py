"""Objects that many passes read: a Subnet, its wallet's Secret, its claims.

A thousand tasks of one Subnet would read the same three objects in each of their passes. Here an answer of the API
server serves all passes of the next second. What may be stale by that second is what a person has just changed, and a
pass that began a second earlier would have read the same; the transactions and children of a pass are checked by the
contracts and by uids, whatever was read here.
"""

from __future__ import annotations

import asyncio

from covey_operator.kinds import Kind, Object
from covey_operator.kube import Kube

FRESH_SECONDS = 1.0

_Place = tuple[Kind, str, str]


class SharedReads:
    """Live reads, one at a time for each object, each good for `FRESH_SECONDS`."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._reads: dict[_Place, asyncio.Task[Object | None]] = {}

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object as it was at most a second ago, or None; callers must not change it.

        Raises:
            ApiException, ClientError, TimeoutError: as `Kube.get`; an error is not kept.
        """
        place = (kind, namespace, name)
        read = self._reads.get(place)
        if read is None:
            read = self._reads[place] = asyncio.create_task(self._kube.get(kind, namespace, name))
            read.add_done_callback(lambda done: self._keep(place, done))
        return await asyncio.shield(read)  # who waits no more must not take the answer from the others

    def _keep(self, place: _Place, read: asyncio.Task[Object | None]) -> None:
        if read.cancelled() or read.exception() is not None:
            del self._reads[place]
        else:
            asyncio.get_running_loop().call_later(FRESH_SECONDS, self._reads.pop, place)
