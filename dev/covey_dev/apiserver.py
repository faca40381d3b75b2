"""A real API server without nodes, for integration tests: etcd, kube-apiserver and controllers on loopback.

Objects, admission, CRDs, RBAC, server-side apply, watches, garbage collection and namespaces are all real; pods stay
Pending, because nothing schedules or runs them.
"""

import json
import shutil
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from covey_dev import golang, paths, pki
from covey_dev.artifact import write_atomically
from covey_dev.controlplane import ControlPlane
from covey_dev.errors import AlreadyRunningError
from covey_dev.process import Process, run, spawn, until

_READY_SECONDS = 60.0
PREFIX = "apiserver-"
_AUDIT_POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"


class ApiServer:
    """One API server; a context manager that starts it and removes every trace of it.

    >>> with ApiServer(audit=True) as server:
    ...     server.kubectl("get", "namespaces")

    Args:
        directory: where its files go; without it a temporary directory, removed by `stop`.
        audit: write one JSON line per request to `audit_log`.
        outlives: whether it goes on when this process ends; otherwise it is killed with it, crash or not.
        oldest: run the oldest Kubernetes that Covey supports instead of the newest; etcd and kubectl are the newest.

    Attributes:
        directory, kubeconfig, audit_log, ca_certificate, client_certificate, client_key: paths (the client is an
            administrator, group system:masters).
        server: URL, such as https://127.0.0.1:40123; known after `start`.
    """

    def __init__(
        self, directory: Path | None = None, *, audit: bool = False, outlives: bool = False, oldest: bool = False
    ) -> None:
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="covey-apiserver-"))
        self.kubeconfig = self.directory / "kubeconfig"
        self.audit_log = self.directory / "audit.jsonl"
        self.ca_certificate = self.directory / "pki/ca.crt"
        self.client_certificate = self.directory / "pki/admin.crt"
        self.client_key = self.directory / "pki/admin.key"
        self.server = ""
        self._audit = audit
        self._outlives = outlives
        self._oldest = oldest

    def __enter__(self) -> "ApiServer":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether a process of it lives."""
        return any(Process.load(file) for file in self._pid_files())

    def start(self) -> None:
        """Start it with new certificates and an empty store, and return when it serves and namespaces work.

        Raises:
            AlreadyRunningError: it runs.
            NotReadyError: it did not answer in time; carries the end of its log.
        """
        if self.running:
            raise AlreadyRunningError(f"an API server runs in {self.directory}", "Stop it first.")
        newest = golang.kube()
        binaries = golang.kube_oldest() if self._oldest else newest
        port, etcd_port, etcd_peer_port, controllers_port = _free_ports(4)
        plane = ControlPlane(
            name="apiserver",
            address="127.0.0.1",
            port=port,
            etcd_port=etcd_port,
            etcd_peer_port=etcd_peer_port,
            certificates=self.directory / "pki",
            etcd_data=self.directory / "etcd",
            announces=False,
            audit_log=self.audit_log if self._audit else None,
            audit_policy=self.directory / "audit-policy.yaml" if self._audit else None,
        )
        plane.write_certificates()
        self.server = plane.server
        pki.write_kubeconfig(self.kubeconfig, plane.name, plane.server, plane.certificates, "admin")
        controllers = self.directory / "controllers.kubeconfig"
        pki.write_kubeconfig(controllers, plane.name, plane.server, plane.certificates, "controllers")
        write_atomically(self.directory / "audit-policy.yaml", _AUDIT_POLICY)
        self._spawn(newest, plane.etcd())
        self._spawn(binaries, plane.apiserver("127.0.0.1"))
        self._wait("/readyz")
        self._spawn(binaries, plane.controllers(controllers, controllers_port, nodes=False))
        self._wait("/api/v1/namespaces/default/serviceaccounts/default")

    def stop(self) -> None:
        """Kill its processes, and remove its directory if that is a temporary one; nothing to stop is no error."""
        for file in self._pid_files():
            process = Process.load(file)
            if process:
                process.stop(grace_seconds=0)
            file.unlink()
        if self._temporary and self.directory.exists():
            shutil.rmtree(self.directory)

    def remove(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and return what it prints."""
        # kubectl keeps discovery documents by address, and ports are used again.
        cache = f"--cache-dir={self.directory}/kubectl"
        return run(golang.kube() / "kubectl", f"--kubeconfig={self.kubeconfig}", cache, *arguments, stdin=stdin)

    def audit_size(self) -> int:
        """Where the audit log ends now, in bytes."""
        return self.audit_log.stat().st_size

    def audit(self, start: int = 0) -> list[dict[str, object]]:
        """The audit events from byte `start` of the log on, oldest first (audit.k8s.io/v1 Event, level Metadata).

        Late in a long run the whole log takes seconds to parse; who waits for something reads what is new.
        """
        with self.audit_log.open("rb") as log:
            log.seek(start)
            return [json.loads(line) for line in log if line.endswith(b"\n")]

    @property
    def pids(self) -> list[int]:
        """Of etcd, API server and controllers, those that run."""
        return [process.pid for file in self._pid_files() if (process := Process.load(file)) is not None]

    def _pid_files(self) -> list[Path]:
        return sorted(self.directory.glob("run/*.pid"))

    def _spawn(self, binaries: Path, command: list[str]) -> None:
        name = command[0]
        with_parent = [] if self._outlives else ["setpriv", "--pdeathsig", "KILL"]
        log = self.directory / f"log/{name}.log"
        spawn([*with_parent, binaries / name, *command[1:]], log, {"GOGC": "60"}).save(
            self.directory / f"run/{name}.pid"
        )

    def _wait(self, path: str) -> None:
        context = ssl.create_default_context(cafile=str(self.ca_certificate))
        context.load_cert_chain(self.client_certificate, self.client_key)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

        def answers() -> bool:
            try:
                with opener.open(f"{self.server}{path}", timeout=5) as response:
                    return bool(response.status == 200)
            except (urllib.error.URLError, OSError):
                return False

        log = self.directory / "log/kube-apiserver.log"
        until(answers, f"the API server's {path}", _READY_SECONDS, f"Read the logs in {log.parent}.", log)


def named(name: str, *, audit: bool = False) -> ApiServer:
    """The API server `name` of the command line, running or not."""
    return ApiServer(paths.state() / f"{PREFIX}{name}", audit=audit, outlives=True)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing uses; all are held until all are known, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
