"""The administrator and the kubelet of an API server without nodes: objects are made, pods are said to run.

Every head has the same address of loopback, where one validator answers for all of them: the operator asks as often as
it would ask a thousand, and the answer never changes.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from covey_dev.apiserver import ApiServer
from covey_dev.podstatus import running
from covey_operator.kinds import POD, TASK, Object
from covey_operator.plan import names

HEAD_IP = f"127.78.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"  # two benchmarks may run side by side
WORKER_IP = "127.79.0.1"
AT_ONCE = 8
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PROGRESS = {"round": 1, "rounds": 4, "loss": 0.5, "peers": 1, "peersConnected": 1}


class Admin:
    """Requests of the administrator."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session, self._server = session, server

    async def request(self, method: str, path: str, body: Object | None = None, kind: str = "json") -> Object:
        """One request; the answer as JSON.

        Raises:
            RuntimeError: not a 2xx.
        """
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": f"application/{kind}"}
        async with self._session.request(method, self._server + path, data=data, headers=headers) as response:
            if not response.ok:
                raise RuntimeError(f"{method} {path}: {response.status} {await response.text()}")
            return dict(await response.json())

    async def watch(self, path: str) -> AsyncIterator[Object]:
        """Metadata of what is there and of what comes, until the watch ends."""
        async with self._session.get(self._server + path, headers={"Accept": METADATA_ONLY}) as response:
            response.raise_for_status()
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ADDED":
                    yield event["object"]

    async def tasks(self, namespace: str) -> list[Object]:
        """All FederatedTasks."""
        return list((await self.request("GET", TASK.path(namespace)))["items"])


@asynccontextmanager
async def admin(server: ApiServer) -> AsyncIterator[Admin]:
    """A client with the administrator's certificate."""
    context = ssl.create_default_context(cafile=str(server.ca_certificate))
    context.load_cert_chain(server.client_certificate, server.client_key)
    connector = aiohttp.TCPConnector(ssl=context)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**20) as session:
        yield Admin(session, server.server)


class Kubelet:
    """Says of every pod of a namespace that it runs and is ready, as soon as it is there."""

    def __init__(self, admin: Admin, namespace: str) -> None:
        self._admin, self._namespace = admin, namespace
        self._seen: set[str] = set()
        self._places = asyncio.Semaphore(AT_ONCE)
        self.running = 0

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                path = f"{POD.path(self._namespace)}?watch=1&labelSelector={names.TASK}"
                async for pod in self._admin.watch(path):
                    if pod["metadata"]["uid"] not in self._seen:
                        self._seen.add(pod["metadata"]["uid"])
                        group.create_task(self._start(pod))

    async def _start(self, pod: Object) -> None:
        metadata = pod["metadata"]
        head = metadata["name"].endswith("-head")
        address, containers = (HEAD_IP, ["ray-head", "validator"]) if head else (WORKER_IP, ["ray-worker"])
        path = POD.path(self._namespace, metadata["name"]) + "/status"
        async with self._places:
            await self._admin.request("PATCH", path, {"status": running(address, containers)}, "merge-patch+json")
        self.running += 1


@asynccontextmanager
async def validators() -> AsyncIterator[None]:
    """What answers for all validators, and costs next to nothing."""
    body = json.dumps(PROGRESS).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, HEAD_IP, names.STATUS_PORT, backlog=1024)
    try:
        yield
    finally:
        server.close()
