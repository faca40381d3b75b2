"""A small Kubernetes client for the node's agent: lists, watches and patches, standard library only."""

import base64
import http.client
import json
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WATCH_SECONDS = 300
_RETRY_SECONDS = 0.5


class Api:
    """An API server, by the kubeconfig (in JSON) of a client certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as file:  # mode 0600; the ssl module takes files only
            for part in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[part]))
            file.flush()
            self._context.load_cert_chain(file.name)
        self._host = cluster["server"].removeprefix("https://")

    def request(self, method: str, path: str, body: object = None, timeout: float = 30.0) -> http.client.HTTPResponse:
        """Send a request; `body` is a JSON merge patch.

        Raises:
            OSError, http.client.HTTPException: the server did not answer, or not with success.
        """
        connection = http.client.HTTPSConnection(self._host, context=self._context, timeout=timeout)
        content = json.dumps(body) if body is not None else None
        connection.request(method, path, content, {"Content-Type": "application/merge-patch+json"} if content else {})
        response = connection.getresponse()
        if response.status >= 300:
            raise http.client.HTTPException(f"{method} {path}: {response.status} {response.read().decode()[:300]}")
        return response


class Store:
    """All objects of one collection, kept current by a thread; `changed` is set at every change.

    Attributes:
        synced: set once the first list is in.
    """

    def __init__(self, api: Api, path: str, changed: threading.Event) -> None:
        self.synced = threading.Event()
        self._api = api
        self._path = path
        self._changed = changed
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._follow, daemon=True, name=path).start()

    def objects(self) -> list[dict[str, Any]]:
        """The objects as of now."""
        with self._lock:
            return list(self._objects.values())

    def _follow(self) -> None:
        while True:
            try:
                version = self._list()
                for event in self._events(version):
                    self._take(event)
            except (OSError, http.client.HTTPException, ValueError) as error:
                print(f"{self._path}: {error!r}; listing again", file=sys.stderr, flush=True)
                time.sleep(_RETRY_SECONDS)

    def _list(self) -> str:
        listed = json.load(self._api.request("GET", self._path))
        with self._lock:
            self._objects = {_key(item): item for item in listed["items"]}
        self.synced.set()
        self._changed.set()
        return str(listed["metadata"]["resourceVersion"])

    def _events(self, version: str) -> Iterator[dict[str, Any]]:
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={_WATCH_SECONDS}&resourceVersion={version}"
        for line in self._api.request("GET", f"{self._path}?{query}", timeout=_WATCH_SECONDS + 30):
            yield json.loads(line)

    def _take(self, event: dict[str, Any]) -> None:
        item = event["object"]
        if event["type"] == "ERROR":
            raise ValueError(item.get("message", "the watch ended"))
        if event["type"] == "BOOKMARK":
            return
        with self._lock:
            if event["type"] == "DELETED":
                self._objects.pop(_key(item), None)
            else:
                self._objects[_key(item)] = item
        self._changed.set()


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
