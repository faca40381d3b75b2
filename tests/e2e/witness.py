"""Watches the messages that validators keep during a round, to see whether a site ever signs twice.

A validator forgets a round's messages when the round is over, so they must be read while it goes on.
"""

from __future__ import annotations

import struct
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from covey_chain.signing import Domain, recover
from covey_chain.types import RoundResult, Signable
from covey_exchange.messages import from_wire
from covey_exchange.proto.wire_pb2 import Signed
from covey_validator.store import slot

_POLL_SECONDS = 0.05
Slot = tuple[str, tuple[object, ...]]


class Witness:
    """Collects every signed message in some validators' state directories for the length of a block."""

    def __init__(self, directories: Mapping[str, Path]) -> None:
        self._directories = directories
        self._wires: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Witness:
        self._watching = self._thread.submit(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.shutdown()
        if kind is None:
            self._watching.result()  # who stopped watching must not say that there was nothing

    def bodies(self, domain: Domain, sites: Mapping[str, str]) -> dict[Slot, set[Signable]]:
        """What was signed, by (site, slot).

        Args:
            domain: of the contracts.
            sites: address of the session key -> address of the owner.
        """
        found: dict[Slot, set[Signable]] = defaultdict(set)
        for wire in self._wires:
            envelope = from_wire(Signed.FromString(wire))
            body = envelope.body
            site = sites[recover(domain, body, envelope.signature)]
            assert isinstance(body, RoundResult) or body.site == site
            found[site, slot(body)].add(body)
        return found

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            for directory in self._directories.values():
                for log in directory.glob("rounds/*/messages.log"):
                    try:
                        data = log.read_bytes()
                    except FileNotFoundError:  # the round has just ended
                        continue
                    self._wires.update(frames(data))


def frames(data: bytes) -> Iterator[bytes]:
    """Messages of a log, each behind its length as 32-bit big-endian; a half-written end is left out."""
    start = 0
    while start + 4 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        start += 4 + length
        if start <= len(data):
            yield data[start - length : start]
