"""A thin edge to the Kubernetes API: live reads, server-side apply, and no write when nothing would change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from covey_operator.kinds import (
    CLAIM,
    EVENT,
    POD,
    RAY_CLUSTER,
    Kind,
    Object,
    annotations_of,
    controlled_by,
    deleting,
    held,
    kind_of,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from covey_operator.metrics import Metrics
from covey_operator.plan.names import QUEUE

FIELD_MANAGER = "covey-operator"
MANAGED = {"fieldManager": FIELD_MANAGER}
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
APPLIED_HASH = "covey.dev/applied-hash"
OWN_WRITES_KEPT, PAGE_SIZE = 4096, 250
MAX_EVENT_MESSAGE = 1023  # the API refuses 1024 and more
REQUEST_SECONDS = 30.0

OK, REDIRECT = 200, 300
FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 403, 404, 409, 422


class NameConflictError(Exception):
    """An object with our child's name belongs to somebody else; it is left alone."""

    def __init__(self, kind: str, namespace: str, name: str) -> None:
        super().__init__(f"{kind} {namespace}/{name} exists and is not managed by this object")
        self.kind, self.namespace, self.name = kind, namespace, name


class RefusedError(Exception):
    """The API server will not have one of our children: quota, Pod Security, a node port that is taken."""

    def __init__(self, kind: str, name: str, message: str) -> None:
        super().__init__(f"{kind} {name} was refused: {message}")
        self.kind, self.name, self.message = kind, name, message


@contextmanager
def _refusals(desired: Object) -> Iterator[None]:
    """What the API server says against a child, as the error that a pass tells."""
    try:
        yield
    except ApiException as error:
        if error.status in (FORBIDDEN, UNPROCESSABLE):
            raise RefusedError(kind_of(desired).kind, name_of(desired), _said(error)) from error
        raise


def _with_owner(desired: Object, owner: Object) -> Object:
    return {**desired, "metadata": {**desired["metadata"], "ownerReferences": [owner_reference(owner)]}}


def _said(error: ApiException) -> str:
    """The message of the API server's Status object."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def applied_hash(desired: Object) -> str:
    """A short digest of what we want, kept in an annotation so that fields that we no longer want are noticed."""
    return hashlib.sha256(json.dumps(desired, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def holds(desired: Any, live: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether `live` says everything that `desired` says; what others added does not matter.

    Lists must agree element by element. What is empty in `desired` may be absent in `live`.
    """
    if isinstance(desired, Mapping):
        if live is None:
            return not desired
        return isinstance(live, Mapping) and all(holds(value, live.get(key)) for key, value in desired.items())
    if isinstance(desired, list):
        if live is None:
            return not desired
        return (
            isinstance(live, list)
            and len(desired) == len(live)
            and all(holds(a, b) for a, b in zip(desired, live, strict=True))
        )
    return bool(desired == live)


def with_hash(desired: Object) -> Object:
    """The object as it is sent: with the digest of itself as annotation."""
    metadata = dict(desired["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED_HASH: applied_hash(desired)}
    return {**desired, "metadata": metadata}


class OwnWrites:
    """Versions of objects that this process has written: a watch tells of them, and they are no news.

    A pass knows what it has written itself; what it writes of another object it must wake.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], None] = {}

    def add(self, written: Object) -> None:
        """Remember what the API server answered to a write."""
        self._versions[uid_of(written), str(written["metadata"]["resourceVersion"])] = None
        if len(self._versions) > OWN_WRITES_KEPT:
            del self._versions[next(iter(self._versions))]

    def has(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an object with this metadata is as this process has left it."""
        return (str(metadata.get("uid")), str(metadata.get("resourceVersion"))) in self._versions


class Kube:
    """The operator's client: the transport of `kubernetes.aio`, counted by verb, kind and status code.

    Its dynamic client is not used: it formats a traceback for every answer of 404.
    """

    def __init__(self, api: ApiClient, metrics: Metrics, instance: str) -> None:
        self.own_writes = OwnWrites()
        self._api: Any = api
        self._metrics = metrics
        self._instance = instance

    async def _request(
        self,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, object],
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        code = "error"
        method = {"list": "GET", "create": "POST", "apply": "PATCH"}.get(verb, verb.upper())
        headers = {"Accept": "application/json", "Content-Type": content_type}
        asked = [(name, value) for name, value in query.items() if value is not None]
        try:
            request = await self._api.param_serialize(
                method, path, query_params=asked, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = await self._api.call_api(*request, _request_timeout=REQUEST_SECONDS)
            code, answer = str(response.status), await response.read()
            if not OK <= response.status < REDIRECT:
                raise ApiException.from_response(http_resp=response, body=answer.decode(errors="replace"), data=None)
            return cast(Object, json.loads(answer))
        finally:
            self._metrics.api_requests.labels(verb, kind.kind, code).inc()

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object as it is now, or None."""
        try:
            return await self._request("get", kind, kind.path(namespace, name), {})
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def list_all(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> list[Object]:
        """All objects of a namespace (or of the cluster) that carry the labels (a selector string)."""
        found = await self._request("list", kind, kind.path(namespace), {"labelSelector": labels})
        # Items of a list carry no kind of their own.
        return [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in found["items"]]

    async def each(self, kind: Kind, namespace: str | None) -> AsyncIterator[Object]:
        """All objects of a namespace (or of the cluster), read page by page: thousands are never held at once."""
        more: str | None = None
        while more != "":
            page = await self._request("list", kind, kind.path(namespace), {"limit": PAGE_SIZE, "continue": more})
            for item in page["items"]:
                yield {**item, "apiVersion": kind.api_version, "kind": kind.kind}
            more = page["metadata"].get("continue", "")

    async def apply(self, desired: Object, live: Object | None, owner: Object) -> Object | None:
        """Server-side apply of one of `owner`'s children; what was written, None if nothing was.

        Raises:
            NameConflictError: an object of that name exists and `owner` is not its controller.
            RefusedError: the API server does not accept it (403, 422).
        """
        kind, namespace, name = kind_of(desired), namespace_of(desired), name_of(desired)
        desired = with_hash(_with_owner(desired, owner))
        if live is None and kind == POD:
            there, made = await self._create(POD, desired, owner)  # a pod is never changed once it runs
            return there if made else None
        live = await self._child(desired, live, owner)
        if live is not None and self._current(desired, live):
            return None
        try:
            with _refusals(desired):
                written = await self._apply(kind, desired, force=live is not None)
        except ApiException as error:
            if error.status == CONFLICT and live is None:  # somebody was faster
                raise NameConflictError(kind.kind, namespace, name) from error
            raise
        self.own_writes.add(written)
        return written

    async def make_once(self, desired: Object, owner: Object, usable: Callable[[Object], bool]) -> Object:
        """Make a child that must not change once it serves, such as a key; what is there afterwards.

        Another operator may make the same one at the same moment: the first stays, and both go on with it.

        Raises:
            NameConflictError: an object of that name exists and `owner` is not its controller.
            RefusedError: the API server does not accept it (403, 422).
            ApiException: 409 if it was made or changed by another a moment ago; the pass is simply run again.
        """
        kind, desired = kind_of(desired), _with_owner(desired, owner)
        there, made = await self._create(kind, desired, owner)
        if made or usable(there):
            return there
        desired["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
        with _refusals(desired):
            there = await self._apply(kind, desired, force=True)
        self.own_writes.add(there)
        return there

    async def _create(self, kind: Kind, desired: Object, owner: Object) -> tuple[Object, bool]:
        """Create a child by POST, which needs no look beforehand: what is there then, and whether it was made."""
        try:
            with _refusals(desired):
                made = await self._request("create", kind, kind.path(namespace_of(desired)), MANAGED, desired)
        except ApiException as error:
            if error.status == CONFLICT:
                live = await self._child(desired, None, owner)
                if live is not None:
                    return live, False
            raise
        self.own_writes.add(made)
        return made, True

    async def _child(self, desired: Object, live: Object | None, owner: Object) -> Object | None:
        """The object of that name, read unless it was before; never somebody else's."""
        kind, namespace, name = kind_of(desired), namespace_of(desired), name_of(desired)
        if live is None:
            live = await self.get(kind, namespace, name)
        if live is not None and not controlled_by(live, uid_of(owner)):
            raise NameConflictError(kind.kind, namespace, name)
        return live

    @staticmethod
    def _current(desired: Object, live: Object) -> bool:
        if annotations_of(live).get(APPLIED_HASH) != annotations_of(desired)[APPLIED_HASH]:
            return False
        # The API server rewrites the quantities of claims, which cannot drift in what matters; and Kueue writes
        # placement into what it admits, which is its right: the digest is enough.
        queued = kind_of(desired) == RAY_CLUSTER and QUEUE in labels_of(desired)
        return queued or kind_of(desired) == CLAIM or holds(desired, live)

    async def _apply(self, kind: Kind, desired: Object, force: bool) -> Object:
        return await self._request(
            "apply",
            kind,
            kind.path(namespace_of(desired), name_of(desired)),
            {**MANAGED, "force": str(force).lower()},
            desired,
            APPLY,
        )

    async def apply_status(self, obj: Object, status: Object) -> bool:
        """Set `.status` of our own resource; True if it differed and was written."""
        if obj.get("status", {}) == status:
            return False
        kind = kind_of(obj)
        body = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {"name": name_of(obj), "namespace": namespace_of(obj), "uid": uid_of(obj)},
            "status": status,
        }
        written = await self._request(
            "apply",
            kind,
            kind.path(namespace_of(obj), name_of(obj)) + "/status",
            {**MANAGED, "force": "true"},
            body,
            APPLY,
        )
        self.own_writes.add(written)
        return True

    async def set_finalizers(self, obj: Object, finalizers: list[str]) -> Object | None:
        """Replace the finalizers if the object is still the one that was read; None if it has gone.

        Raises:
            ApiException: 409 if the object has changed meanwhile; the pass is simply run again.
        """
        kind = kind_of(obj)
        body = {
            "metadata": {"finalizers": finalizers or None, "resourceVersion": obj["metadata"]["resourceVersion"]},
        }
        try:
            written = await self._request(
                "patch",
                kind,
                kind.path(namespace_of(obj), name_of(obj)),
                MANAGED,
                body,
                MERGE,
            )
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise
        self.own_writes.add(written)
        return written

    async def delete(self, obj: Object) -> bool:
        """Delete exactly this object (by uid); False if it was gone already."""
        kind = kind_of(obj)
        try:
            await self._request(
                "delete",
                kind,
                kind.path(namespace_of(obj), name_of(obj)),
                {},
                body={
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "preconditions": {"uid": uid_of(obj)},
                    "propagationPolicy": "Background",
                },
            )
        except ApiException as error:
            if error.status in (NOT_FOUND, CONFLICT):  # gone, or another object by now
                return False
            raise
        return True

    async def remove(self, obj: Object, hold: str) -> bool:
        """Delete this object, letting go of it first if our finalizer `hold` keeps it; False if it was gone already."""
        if held(obj, hold):
            kept = [name for name in obj["metadata"]["finalizers"] if name != hold]
            released = await self.set_finalizers(obj, kept)
            if released is None or deleting(obj):
                return released is not None
        return await self.delete(obj)

    async def event(self, obj: Object, reason: str, message: str, warning: bool = False) -> None:
        """Record an event on our own resource."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = namespace_of(obj)
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name_of(obj)}.", "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": name_of(obj),
                "namespace": namespace,
                "uid": uid_of(obj),
                "resourceVersion": obj["metadata"]["resourceVersion"],
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:MAX_EVENT_MESSAGE],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        await self._request("create", EVENT, EVENT.path(namespace), MANAGED, body)
