"""The updates that counted, of all rounds: signed header and payload, by digest, from our disk or from a peer.

Without them nobody could say afterwards who moved the model where, nor check what was paid for it.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from pathlib import Path

from covey_chain.types import UpdateHeader
from covey_exchange import segments
from covey_exchange.envelope import Roster, SiteUpdate
from covey_exchange.errors import ExchangeError, MessageRefused
from covey_exchange.exchange import Exchange
from covey_exchange.messages import from_wire, to_wire
from covey_exchange.proto.wire_pb2 import Signed
from google.protobuf.message import DecodeError

UPDATE_KIND = "covey/update"
AGAIN_SECONDS = 3.0
_HEADER_BYTES_MAX = 4096
_log = logging.getLogger(__name__)


class ArchiveInvalid(ValueError):
    """Bytes that are not the update that was asked for."""


class Archive:
    """One task's updates in a directory, a file each.

    Nothing is synced: what a crash leaves incomplete is found out by its hashes, and is had from a peer again.
    """

    def __init__(self, path: Path, roster: Roster, max_payload_bytes: int) -> None:
        self._path = path
        self._roster = roster
        self._bytes_max = 4 + _HEADER_BYTES_MAX + max_payload_bytes
        path.mkdir(parents=True, exist_ok=True)

    def put(self, update: SiteUpdate) -> None:
        """Keep an update."""
        target = self._file(update.digest)
        if target.exists():
            return
        header = to_wire(update.message.envelope).SerializeToString(deterministic=True)
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            file.write(struct.pack(">I", len(header)) + header)
            file.write(update.payload)
        part.replace(target)

    def get(self, digest: bytes) -> SiteUpdate | None:
        """An update; None if it is not here, or not whole."""
        data = self.bytes_of(digest)
        if data is None:
            return None
        try:
            return parse(self._roster, digest, data)
        except ArchiveInvalid as error:
            _log.warning("archived update: %s; it is had from a peer again", error)
            self._file(digest).unlink()
            return None

    def bytes_of(self, digest: bytes) -> bytes | None:
        """The file of an update."""
        path = self._file(digest)
        return path.read_bytes() if path.exists() else None

    async def obtain(self, exchange: Exchange, digest: bytes) -> SiteUpdate:
        """An update from here or from whoever has it; waits until somebody does."""
        while True:
            found = await asyncio.to_thread(self.get, digest)
            if found is not None:
                return found
            for site in sorted(exchange.connected):
                try:
                    data = await exchange.request(site, UPDATE_KIND, digest, limit_bytes=self._bytes_max)
                    found = await asyncio.to_thread(parse, self._roster, digest, data)
                except (ExchangeError, ArchiveInvalid) as error:
                    _log.info("update 0x%s not from %s: %s", digest.hex(), site, error)
                    continue
                await asyncio.to_thread(self.put, found)
                return found
            await asyncio.sleep(AGAIN_SECONDS)

    def serve(self, exchange: Exchange) -> None:
        """Answer peers that were away."""

        async def update(_site: str, digest: bytes) -> bytes | None:
            return await asyncio.to_thread(self.bytes_of, digest)

        exchange.serve(UPDATE_KIND, update)

    def _file(self, digest: bytes) -> Path:
        return file_of(self._path, digest)


def file_of(archive: Path, digest: bytes) -> Path:
    """Where an update lies."""
    return archive / f"{digest.hex()}.update"


def parse(roster: Roster, digest: bytes, data: bytes) -> SiteUpdate:
    """The update in a file's bytes.

    Raises:
        ArchiveInvalid: they are not that update, whole and as its site signed it.
    """
    try:
        (length,) = struct.unpack_from(">I", data)
        if length > _HEADER_BYTES_MAX:
            raise ArchiveInvalid(f"a header of {length} bytes")
        message = roster.verify(from_wire(Signed.FromString(data[4 : 4 + length])))
    except (struct.error, DecodeError, MessageRefused) as error:
        raise ArchiveInvalid(f"no signed header: {error}") from error
    header, payload = message.body, memoryview(data)[4 + length :]
    if message.digest != digest or not isinstance(header, UpdateHeader):
        raise ArchiveInvalid(f"another message than 0x{digest.hex()}")
    if len(payload) != header.length or segments.merkle_root(segments.leaves(payload)) != header.root:
        raise ArchiveInvalid(f"not the {header.length} bytes that {header.site} signed")
    return SiteUpdate(message, header, payload)
