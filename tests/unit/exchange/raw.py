"""Hand-driven connections to and from an exchange, with the credentials of whichever site a test likes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from covey_exchange.exchange import Exchange
from covey_exchange.frames import pack
from covey_exchange.messages import Envelope, to_wire
from covey_exchange.payload import to_leaves
from covey_exchange.proto.wire_pb2 import Answer, Frame, Hello, Offer
from covey_exchange.tls import TlsFiles, Trust
from covey_exchange.transport import PROTOCOL
from eth_utils.address import to_canonical_address
from town import TASK, Site, Town


class Raw:
    """A hand-driven connection with the credentials of a site."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, frame: Frame, data: bytes | bytearray = b"") -> None:
        """A frame, and what follows it as it is."""
        self.writer.write(pack(frame) + data)

    async def receive(self) -> Frame:
        async with asyncio.timeout(30):
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            return Frame.FromString(await self.reader.readexactly(length))

    async def greet(self, site: Site, task: bytes = TASK) -> Frame:
        self.send(Frame(hello=Hello(protocol=PROTOCOL, task_id=task, site=to_canonical_address(site.address))))
        return await self.receive()

    async def offer(self, header: Envelope, payload: bytes) -> Answer:
        """Offer an update; gives the answer."""
        self.send(Frame(offer=Offer(header=to_wire(header), leaves=to_leaves(payload))))
        return (await self.receive()).answer

    async def ended(self) -> None:
        """Wait until the other side has closed."""
        async with asyncio.timeout(30):
            try:
                while await self.reader.read(2**16):
                    pass
            except OSError:
                return


@asynccontextmanager
async def raw(exchange: Exchange, files: TlsFiles | None) -> AsyncIterator[Raw]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port, ssl=context)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def listening(town: Town, site: Site) -> AsyncIterator[asyncio.Queue[Raw]]:
    """A hand-driven peer at a site's end point: its connections, greeted, as they come."""
    accepted: asyncio.Queue[Raw] = asyncio.Queue()
    every: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        every.append(writer)
        connection = Raw(reader, writer)
        await connection.receive()
        connection.send(Frame(hello=Hello(protocol=PROTOCOL, task_id=TASK, site=to_canonical_address(site.address))))
        accepted.put_nowait(connection)

    host, port = site.peer.endpoint.split(":")
    async with await asyncio.start_server(accept, host, int(port), ssl=Trust(site.files, town.peers).server):
        yield accepted
        for writer in every:
            writer.transport.abort()
