"""TLS on a socket: awaited while few bytes go over it, blocking in a thread of its own while many do.

The TLS engine is fed from memory and not by the socket, for two reasons: a connection can change between the two ways
of waiting, and one system call carries many records (a TLS record has at most 16 KiB).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

_CIPHERTEXT_BYTES = 2**18  # read at once


class TlsStream:
    """One TLS connection; only one task or thread may read at a time, and only one write.

    The awaited methods raise OSError (of which ssl.SSLError is one) when the connection breaks; so do the blocking
    ones, and TimeoutError after the silence given to `block`.
    """

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, *, server: bool) -> None:
        """Take over a connected socket; `handshake` comes first."""
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # whole frames are written at once
        self._socket = connected
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self._intact = False  # whether what was written so far are whole records

    @property
    def certificate(self) -> bytes | None:
        """The peer's, DER."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def alive(self) -> bool:
        """Of a connection on which nothing is due: False once the peer has closed it, or sent something."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def abort(self) -> None:
        """End the connection at once; whoever reads or writes fails. It still has to be closed."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def handshake(self) -> None:
        """Agree on keys and exchange certificates."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError("closed during the handshake") from None
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                self._intact = True
                return

    async def read(self, count: int) -> bytes:
        """What is there, at most `count` bytes, and at least one; nothing at the end."""
        while True:
            try:
                return self._tls.read(count)
            except ssl.SSLWantReadError:
                if not await self._fill():
                    return b""

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        self._tls.write(data)
        await self._flush()

    async def close(self, wait_seconds: float) -> None:
        """Say that this is the end, wait until the peer has read it, and give the socket back."""
        try:
            async with asyncio.timeout(wait_seconds):
                await self._part()
        except (OSError, TimeoutError):
            pass
        finally:
            self._socket.close()

    def block(self, silence_seconds: float | None) -> None:
        """Wait in the calls from now on, each step at most so long; None: await again."""
        self._socket.settimeout(0 if silence_seconds is None else silence_seconds)

    def read_into(self, view: memoryview, ciphertext: memoryview) -> int:
        """Blocking: fill the view as far as what has come reaches; returns how far, at least one byte.

        Args:
            view: where it goes.
            ciphertext: room to work in; the same for all calls.
        """
        filled = 0
        while filled < len(view):
            try:
                count = self._tls.read(len(view) - filled, view[filled:])
            except ssl.SSLWantReadError:
                if filled:
                    break
                received = self._socket.recv_into(ciphertext)
                if not received:
                    raise ConnectionResetError("closed") from None
                self._incoming.write(ciphertext[:received])
                continue
            if not count:
                raise ConnectionResetError("closed")
            filled += int(count)
        return filled

    def write_all(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """Blocking: send all of it, which should fit in a core's cache; `more`: together with what is written next."""
        self._tls.write(data)
        if more:
            return
        self._intact = False
        self._socket.sendall(self._outgoing.read())
        self._intact = True

    async def _part(self) -> None:
        if not self._intact:
            return
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()
        self._socket.shutdown(socket.SHUT_WR)
        # Closing with something unread would reset the connection, and our last words would be lost.
        while await asyncio.get_running_loop().sock_recv(self._socket, _CIPHERTEXT_BYTES):
            pass

    async def _fill(self) -> bool:
        """Take in what the socket has; False at the end."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, _CIPHERTEXT_BYTES)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            intact, self._intact = self._intact, False
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
            self._intact = intact


def ciphertext_room() -> memoryview:
    """Room for `TlsStream.read_into`."""
    return memoryview(bytearray(_CIPHERTEXT_BYTES))


async def connect(host: str, port: int) -> socket.socket:
    """A TCP connection to the first address of a host that answers.

    Raises:
        OSError: none does, or the name is unknown.
    """
    loop = asyncio.get_running_loop()
    problem = OSError(f"no address of {host}")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.setblocking(False)
            await loop.sock_connect(connecting, address)
        except OSError as error:
            connecting.close()
            problem = error
        except BaseException:
            connecting.close()
            raise
        else:
            return connecting
    raise problem
