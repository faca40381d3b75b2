"""Lines between sites in virtual time: rate, delay and TCP's slow start, no loss.

A site's line carries its connections in turn, slice by slice, as the token bucket of `covey_exchange.egress` does. What
counts is what that bucket counts, bytes of frames; TLS, TCP and IP add some 6 % on a real line. Acknowledgements take
time but no bandwidth.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

INITIAL_WINDOW_BYTES = 10 * 1448  # RFC 6928
WINDOW_BYTES_MAX = 6 * 2**20  # what Linux lets a receive buffer grow to
IDLE_SECONDS_MIN = (
    0.2  # the least retransmission timeout; after each that passes in silence the window halves (RFC 2861)
)

Item = TypeVar("Item")


class Clock:
    """Virtual time, and what happens at which moment of it; ties in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._asked = 0

    def after(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Have something called some time from now."""
        self._asked += 1
        heapq.heappush(self._heap, (self.now + seconds, self._asked, call, arguments))

    def run(self, over: Callable[[], bool], until: float) -> None:
        """Let time pass until `over`, or until a moment, or until nothing happens any more."""
        while self._heap and not over():
            moment, _, call, arguments = heapq.heappop(self._heap)
            if moment > until:
                return
            self.now = moment
            call(*arguments)


@dataclass(frozen=True)
class Line:
    """A site's access to the network.

    Attributes:
        up_bits_per_second, down_bits_per_second: what it can send and receive.
        one_way_seconds: its share of the delay to anybody; that between two sites is the sum of both.
        slice_bytes: after so many it is another connection's turn.
        burst_bytes: what may leave at once after a silence.
        initial_window_bytes: what a connection sends before the first acknowledgement.
    """

    up_bits_per_second: float
    down_bits_per_second: float
    one_way_seconds: float
    slice_bytes: int = 2**16
    burst_bytes: float = 0.0
    initial_window_bytes: int = INITIAL_WINDOW_BYTES


class Sender(Protocol):
    """What takes turns on a line: `take` says how many bytes leave now, `left` is called when they have."""

    def take(self, limit: int) -> int: ...

    def left(self, size: int) -> None: ...


class Host:
    """One end of many connections: sends slice by slice, receives one byte after the other."""

    def __init__(self, clock: Clock, line: Line) -> None:
        self.clock = clock
        self.line = line
        self.bytes_sent = 0
        self._turns: deque[Sender] = deque()
        self._sending = False
        self._saved, self._idle_since = line.burst_bytes, 0.0
        self._free_at = 0.0

    def ask(self, pipe: Sender) -> None:
        """A connection has something to send."""
        self._turns.append(pipe)
        if not self._sending:
            idle = self.clock.now - self._idle_since
            self._saved = min(self.line.burst_bytes, self._saved + idle * self.line.up_bits_per_second / 8)
            self._send()

    def _send(self) -> None:
        self._sending = bool(self._turns)
        if self._sending:
            pipe = self._turns.popleft()
            size = pipe.take(self.line.slice_bytes)
            self.bytes_sent += size
            at_once = min(size, self._saved)
            self._saved -= at_once
            self.clock.after(8 * (size - at_once) / self.line.up_bits_per_second, self._sent, pipe, size)

    def _sent(self, pipe: Sender, size: int) -> None:
        pipe.left(size)
        self._idle_since = self.clock.now
        self._send()

    def receive(self, size: int) -> float:
        """Seconds from now until a slice, whose last byte could be here now, is through the line."""
        now = self.clock.now
        self._free_at = max(now, self._free_at + 8 * size / self.line.down_bits_per_second)
        return self._free_at - now


class Pipe(Generic[Item]):
    """One direction of a connection that stands: items go in with their size, and come out in order."""

    def __init__(self, giver: Host, taker: Host, deliver: Callable[[list[Item]], None]) -> None:
        self._clock = giver.clock
        self._giver, self._taker = giver, taker
        self._deliver = deliver
        self._delay = giver.line.one_way_seconds + taker.line.one_way_seconds
        self._items: deque[tuple[int, Item]] = deque()
        self._written = self._taken = self._arrived = 0  # bytes since the start
        self._in_flight = 0
        self._acknowledged: deque[tuple[float, int]] = deque()  # when the giver will know of how much
        self._window = giver.line.initial_window_bytes
        self._asked = self._blocked = False
        self._last = 0.0

    def send(self, size: int, item: Item) -> None:
        """Queue an item of so many bytes."""
        self._written += size
        self._items.append((self._written, item))
        self._ask()

    def _ask(self) -> None:
        if self._asked or self._taken == self._written:
            return
        self._note_acknowledged()
        self._asked = True
        if self._in_flight < self._window:
            self._giver.ask(self)
        elif self._acknowledged:
            self._clock.after(self._acknowledged[0][0] - self._clock.now, self._ask_again)
        else:
            self._blocked = True

    def _ask_again(self) -> None:
        self._asked = False
        self._ask()

    def take(self, limit: int) -> int:
        """It is our turn: how many bytes leave now."""
        now = self._clock.now
        if self._in_flight == 0:
            timeouts = int((now - self._last) / (IDLE_SECONDS_MIN + 2 * self._delay))
            self._window = max(self._window >> min(timeouts, 64), self._giver.line.initial_window_bytes)
        size = min(limit, self._written - self._taken, self._window - self._in_flight)
        self._taken += size
        self._in_flight += size
        self._last = now
        return size

    def _note_acknowledged(self) -> None:
        while self._acknowledged and self._acknowledged[0][0] <= self._clock.now:
            size = self._acknowledged.popleft()[1]
            self._in_flight -= size
            self._window = min(self._window + size, WINDOW_BYTES_MAX)

    def left(self, size: int) -> None:
        """The last byte of a slice is on its way."""
        self._clock.after(self._delay, self._reach, size)
        self._asked = False
        self._ask()

    def _reach(self, size: int) -> None:
        wait = self._taker.receive(size)
        self._acknowledged.append((self._clock.now + wait + self._delay, size))
        if self._blocked:
            self._blocked = False
            self._clock.after(wait + self._delay, self._ask_again)
        if wait > 0:
            self._clock.after(wait, self._arrive, size)
        else:
            self._arrive(size)

    def _arrive(self, size: int) -> None:
        self._arrived += size
        whole: list[Item] = []
        while self._items and self._items[0][0] <= self._arrived:
            whole.append(self._items.popleft()[1])
        if whole:
            self._deliver(whole)
