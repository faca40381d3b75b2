"""One member's cluster through its own kubeconfig; no credential of one works at another."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from covey_dev import golang
from covey_dev.errors import NotReadyError
from covey_dev.place import Site
from covey_dev.process import run

from covey_demo.manifests import Object
from covey_demo.members import NAMESPACE


class WaitError(NotReadyError):
    """A condition did not come."""

    def __init__(self, cluster: str, what: str, condition: str, seconds: int, log: str) -> None:
        super().__init__(
            f"{cluster}: {what} did not reach {condition} within {seconds} s", "Read the description above.", log
        )


@dataclass(frozen=True)
class Cluster:
    """kubectl and volumes of a cluster.

    Attributes:
        site: where it is.
    """

    site: Site

    @property
    def name(self) -> str:
        """Of the cluster, and so of the member."""
        return self.site.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.site.kubeconfig

    @property
    def environment(self) -> dict[str, str]:
        """For kubectl and Helm. kubectl keeps discovery documents by address, which clusters use again."""
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.cache)}

    @property
    def cache(self) -> Path:
        """What kubectl may keep."""
        return self.site.directory / "kubectl"

    def volume(self, claim: str) -> Path:
        """The directory behind one of the demo's claims, on the node and on the host."""
        return self.site.directory / "volumes" / claim

    def directory_of(self, volume: Object) -> Path:
        """The directory of the host behind a PersistentVolume."""
        spec = volume["spec"]
        return self.site.on_host(Path((spec.get("local") or spec["hostPath"])["path"]))

    def kubectl(self, *arguments: str, stdin: str | None = None, remedy: str = "See the message above.") -> str:
        """Run kubectl and return what it prints.

        Raises:
            CommandError: it failed; carries what it printed.
        """
        return run(golang.kube() / "kubectl", *arguments, env=self.environment, stdin=stdin, remedy=remedy)

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kubectl where failure is an answer too."""
        program = str(golang.kube() / "kubectl")
        return subprocess.run(
            [program, *arguments], env={**os.environ, **self.environment}, capture_output=True, text=True
        )

    def apply(self, *objects: Object) -> None:
        """Server-side apply."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", "--field-manager=covey-demo", "-f", "-",
            stdin=json.dumps(listed),
        )  # fmt: skip

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        """One object, or None."""
        printed = self.kubectl("get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "-o", "json")
        return json.loads(printed) if printed.strip() else None

    def objects(self, kind: str, namespace: str = NAMESPACE, selector: str = "") -> list[Object]:
        """All objects of a kind (or of several, with commas) that carry the labels of `selector`."""
        printed = self.kubectl("get", kind, f"--namespace={namespace}", f"--selector={selector}", "-o", "json")
        found: list[Object] = json.loads(printed)["items"]
        return found

    def wait(self, what: str, condition: str, seconds: int, namespace: str = NAMESPACE) -> None:
        """`kubectl wait`; on failure the error carries `kubectl describe` of what was waited for."""
        waited = self.attempt("wait", f"--for={condition}", f"--timeout={seconds}s", f"--namespace={namespace}", what)
        if waited.returncode != 0:
            described = self.attempt("describe", what, f"--namespace={namespace}").stdout
            raise WaitError(self.name, what, condition, seconds, waited.stderr + described)
