"""The gRPC server on the Unix socket: hands every call to the driver's session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from covey_exchange.proto.driver_pb2 import Report, Work
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceServicer, add_ValidatorServiceServicer_to_server

from covey_validator.driver import DriverSession

_MESSAGE_BYTES = 4 * 2**20


class Service(ValidatorServiceServicer):
    """`covey.driver.v1.ValidatorService`."""

    def __init__(self, session: DriverSession) -> None:
        self._session = session

    async def Next(self, request: Report, context: Any) -> Work:  # noqa: N802, ANN401
        """One long poll."""
        return await self._session.next(request)


@asynccontextmanager
async def serve(session: DriverSession, socket: Path) -> AsyncIterator[None]:
    """Serve the driver while the block runs; only processes that can reach the socket's directory can call.

    Raises:
        OSError: the socket cannot be made.
    """
    address = _prepare(socket)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MESSAGE_BYTES)])
    add_ValidatorServiceServicer_to_server(Service(session), server)
    if not server.add_insecure_port(address):
        raise OSError(f"cannot listen on {address}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=1.0)
        _prepare(socket)


def _prepare(socket: Path) -> str:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)  # also of a run that was killed
    return f"unix:{socket.absolute()}"
