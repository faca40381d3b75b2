"""web3's HTTP provider over connections that stay open.

web3 makes a connection, and with TLS a handshake, for every single request, and takes a lock in a thread before each
(7.x, `HTTPSessionManager`): the larger part of what a call costs.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from web3 import AsyncHTTPProvider
from web3.providers.rpc.utils import check_if_retry_on_failure
from web3.types import RPCEndpoint, RPCResponse

TRIES, PAUSE_SECONDS = 2, 0.05
CONNECTIONS = 16


class KeptHTTPProvider(AsyncHTTPProvider):
    """One node, for one event loop; connections that nobody uses are closed after 15 s, sooner than nodes close them.

    Args:
        url: JSON-RPC end point.
        timeout_seconds: for each answer.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        super().__init__(url)
        self._timeout = aiohttp.ClientTimeout(timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask; what may be asked twice is asked again where the connection breaks.

        Raises:
            ClientError, TimeoutError: no answer, or not with status 200.
        """
        body = self.encode_rpc_request(method, params)
        tries = TRIES if check_if_retry_on_failure(method) else 1
        for _ in range(1, tries):
            try:
                return self.decode_rpc_response(await self._post(body))
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(PAUSE_SECONDS)
        return self.decode_rpc_response(await self._post(body))

    async def disconnect(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> bytes:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector, raise_for_status=True, timeout=self._timeout)
        async with self._session.post(str(self.endpoint_uri), data=body, headers=self.get_request_headers()) as answer:
            return await answer.read()
