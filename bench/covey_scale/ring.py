"""Updates round the ring, as `covey_exchange.ring` hands them on when every site is there.

An offer, the answer, the segments as they come in, the confirmation; at most `lines_per_peer` updates at once to the
successor; no update to the site that made it. Connections stand already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from covey_exchange.limits import Limits

from covey_scale.costs import HAVE_BYTES, Costs
from covey_scale.gossip import Parcel
from covey_scale.lines import Host, Pipe
from covey_scale.node import Core

LINES = Limits().lines_per_peer


@dataclass(frozen=True, eq=False)
class Blob:
    """An update on its way; one object for all sites.

    Attributes:
        site: who made it.
        header: its signed header.
        offer_bytes: of the frame that offers it.
        want_bytes: of the answer that wants it.
        frames: bytes of the frames of its segments.
    """

    site: str
    header: Parcel
    offer_bytes: int
    want_bytes: int
    frames: tuple[int, ...]


class _Line:
    """One connection to the successor, and what is being handed over on it."""

    def __init__(self, giver: Ring, taker: Ring) -> None:
        self._giver, self._taker = giver, taker
        self._there = Pipe[int](giver.host, taker.host, self._come)
        self._back = Pipe[bool](taker.host, giver.host, self._answered)
        self._blob: Blob | None = None
        self._wanted = False
        self._next = 0

    def hand_over(self, blob: Blob) -> None:
        self._blob, self._wanted, self._next = blob, False, 0
        self._send(blob.offer_bytes, -1)

    def advance(self, blob: Blob) -> None:
        """Send on what has come of an update, if it is the one that is wanted here."""
        while self._wanted and blob is self._blob and self._next < self._giver.filled(blob):
            size = blob.frames[self._next]
            self._giver.core.run(size * self._giver.costs.bulk, self._send, size, self._next)
            self._next += 1

    def _send(self, size: int, item: int) -> None:
        self._giver.bytes_sent += size
        self._there.send(size, item)

    def _come(self, items: list[int]) -> None:
        blob, taker = self._blob, self._taker
        assert blob is not None
        for item in items:
            if item < 0:
                taker.core.run(taker.costs.copy + taker.costs.verify, self._offered, blob)
            else:
                taker.core.run(blob.frames[item] * taker.costs.bulk, self._put, blob)

    def _offered(self, blob: Blob) -> None:
        self._taker.take(blob, self._giver.site)
        self._answer(blob.want_bytes, False)

    def _put(self, blob: Blob) -> None:
        self._taker.put(blob)
        if self._taker.filled(blob) == len(blob.frames):
            self._answer(HAVE_BYTES, True)

    def _answer(self, size: int, have: bool) -> None:
        self._taker.bytes_sent += size
        self._back.send(size, have)

    def _answered(self, answers: list[bool]) -> None:
        for have in answers:
            if have:
                self._blob = None
                self._giver.freed(self)
            elif self._blob is not None:
                self._wanted = True
                self.advance(self._blob)


class Ring:
    """One site's place in the ring.

    Attributes:
        bytes_sent: offers, segments and answers.
        handed_over: updates given to the successor.
    """

    def __init__(
        self, site: str, host: Host, core: Core, costs: Costs, admit: Callable[[Parcel, str], None],
        arrived: Callable[[Blob], None],
    ) -> None:  # fmt: skip
        self.host, self.core, self.costs = host, core, costs
        self.site = site
        self._admit, self._arrived = admit, arrived
        self._successor = ""
        self._filled: dict[Blob, int] = {}
        self._lines: list[_Line] = []
        self._free: list[_Line] = []
        self._queue: deque[Blob] = deque()
        self.bytes_sent = 0
        self.handed_over = 0

    def join(self, successor: Ring) -> None:
        """Close the ring on one side."""
        self._successor = successor.site
        self._lines = [_Line(self, successor) for _ in range(LINES)]
        self._free = list(self._lines)

    def offer(self, blob: Blob) -> None:
        """Put one's own update on the ring."""
        self._filled[blob] = len(blob.frames)
        self._forward(blob)

    def filled(self, blob: Blob) -> int:
        """How many segments are here."""
        return self._filled[blob]

    def take(self, blob: Blob, giver: str) -> None:
        """An offer: make room, and offer it on at once."""
        self._admit(blob.header, giver)
        self._filled[blob] = 0
        self._forward(blob)

    def put(self, blob: Blob) -> None:
        """A verified segment."""
        self._filled[blob] += 1
        for line in self._lines:
            line.advance(blob)
        if self._filled[blob] == len(blob.frames):
            self._arrived(blob)

    def freed(self, line: _Line) -> None:
        """A hand-over is done."""
        self.handed_over += 1
        self._free.append(line)
        self._start()

    def _forward(self, blob: Blob) -> None:
        if self._successor not in ("", blob.site):
            self._queue.append(blob)
            self._start()

    def _start(self) -> None:
        while self._free and self._queue:
            self._free.pop().hand_over(self._queue.popleft())
