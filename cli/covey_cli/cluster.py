"""The member's cluster as kubectl sees it: a context of a kubeconfig, and the FederatedTasks of one namespace."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from covey_api import GROUP, VERSION
from covey_api.resources import FEDERATED_TASK

from covey_cli.errors import CommandError

try:
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError
except ImportError as missing:  # the part of Covey that simulates needs no Kubernetes
    raise CommandError(f"{missing.name} is not installed; install Covey with its extra `cli`") from missing

REQUEST_SECONDS = 15.0
FIELD_MANAGER = "covey-cli"
_DEFAULT_KUBECONFIG = "~/.kube/config"

Object = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """What people say about where: the options that kubectl knows too; None takes kubectl's default."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None

    @property
    def options(self) -> str:
        """The same for kubectl, to be pasted."""
        named = (("kubeconfig", self.kubeconfig), ("context", self.context), ("namespace", self.namespace))
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in named if value)


class Cluster:
    """One namespace of the cluster.

    Attributes:
        namespace: the one asked for, else the context's, else `default`.
    """

    def __init__(self, place: Place) -> None:
        """Read the kubeconfig; nobody is asked yet.

        Raises:
            CommandError: no kubeconfig, no such context, or it cannot be used.
        """
        files = place.kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_KUBECONFIG
        if not any(Path(file).expanduser().is_file() for file in files.split(os.pathsep) if file):
            raise CommandError(f"there is no kubeconfig at {files}; name one with --kubeconfig or KUBECONFIG")
        try:
            contexts, current = config.list_kube_config_contexts(config_file=files)  # type: ignore[no-untyped-call]
            known = {context["name"]: context for context in contexts}
            chosen = place.context or current["name"]
            if chosen not in known:
                raise CommandError(f"{files} has no context {chosen}; it has: {', '.join(sorted(known)) or 'none'}")
            settings = client.Configuration()
            settings.retries = False
            api = config.new_client_from_config(  # type: ignore[no-untyped-call]
                config_file=files, context=chosen, client_configuration=settings
            )
        except (ConfigException, yaml.YAMLError, OSError, TypeError) as error:
            raise CommandError(f"the kubeconfig {files} cannot be used: {error}") from error
        self.namespace: str = place.namespace or known[chosen]["context"].get("namespace") or "default"
        self._server = str(settings.host)
        self._objects: Any = client.CustomObjectsApi(api)

    def task(self, name: str) -> Object:
        """A FederatedTask as it is now.

        Raises:
            CommandError: it does not exist, or the API server does not say.
        """
        with self._asked("get", name):
            found: Object = self._objects.get_namespaced_custom_object(**self._key(name))
        return found

    def patch_task(self, name: str, change: Object) -> Object:
        """Merge a change into a FederatedTask, and return what it is now.

        Raises:
            CommandError: the API server refuses.
        """
        with self._asked("patch", name):
            found: Object = self._objects.patch_namespaced_custom_object(
                **self._key(name),
                body=change,
                field_manager=FIELD_MANAGER,
                _content_type="application/merge-patch+json",
            )
        return found

    def _key(self, name: str) -> Object:
        return {
            "group": GROUP,
            "version": VERSION,
            "namespace": self.namespace,
            "plural": FEDERATED_TASK.plural,
            "name": name,
            "_request_timeout": REQUEST_SECONDS,
        }

    @contextmanager
    def _asked(self, verb: str, name: str) -> Iterator[None]:
        """What goes wrong, in a sentence."""
        try:
            yield
        except ApiException as error:
            raise CommandError(self._refusal(verb, name, error.status, error.body)) from error
        except HTTPError as error:
            raise CommandError(f"the API server {self._server} does not answer: {_root(error)}") from error
        except ConfigException as error:  # a plug-in for credentials is asked with the first request
            raise CommandError(f"no credentials for {self._server}: {error}") from error

    def _refusal(self, verb: str, name: str, status: int | None, body: str | None) -> str:
        said = _status_of(body)
        match status:
            case 404 if said is None or said.get("reason") != "NotFound":
                return f"the cluster at {self._server} does not know FederatedTasks: the chart is not installed there"
            case 404:
                return f'there is no FederatedTask "{name}" in namespace "{self.namespace}"; see: kubectl get ft -A'
            case 401:
                return f"the API server {self._server} does not accept your credentials"
            case 403:
                why = (said or {}).get("message") or "forbidden"
                return f"you may not {verb} FederatedTasks in namespace {self.namespace}: {why}"
            case _:
                return f"the API server refuses ({status}): {(said or {}).get('message') or body or 'no reason given'}"


def _status_of(body: str | None) -> Object | None:
    """The Status object (meta/v1) that the API server answered with, if it did."""
    try:
        found = json.loads(body or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _root(error: BaseException) -> str:
    """The innermost cause that says something, on one line."""
    cause = getattr(error, "reason", None)
    text = str(cause if isinstance(cause, Exception) else error)
    return " ".join(text.split())
