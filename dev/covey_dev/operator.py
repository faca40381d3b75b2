"""The operator as a process of its own, under its own ServiceAccount, for tests and benchmarks on an API server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from covey_dev.apiserver import ApiServer
from covey_dev.errors import NotReadyError
from covey_dev.paths import REPOSITORY

Object = dict[str, object]

OPERATOR_NAMESPACE = "covey-system"

# What charts/covey grants, written down once more so that a missing right shows here.
RULES: list[Object] = [
    {"apiGroups": ["covey.dev"], "resources": ["subnets"], "verbs": ["get", "list", "watch", "patch"]},
    {
        "apiGroups": ["covey.dev"],
        "resources": ["federatedtasks"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": ["covey.dev"], "resources": ["subnets/status", "federatedtasks/status"], "verbs": ["patch"]},
    {"apiGroups": ["covey.dev"], "resources": ["subnets/finalizers", "federatedtasks/finalizers"], "verbs": ["update"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {
        "apiGroups": [""],
        "resources": ["services", "configmaps"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": [""],
        "resources": ["persistentvolumeclaims"],
        "verbs": ["get", "list", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "list", "create", "patch", "delete"]},
    {
        "apiGroups": ["networking.k8s.io"],
        "resources": ["networkpolicies"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
]
LEASE_RULES: list[Object] = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["covey-operator"],
        "verbs": ["get", "update"],
    },
]


class OperatorProcess:
    """`python -m covey_operator` with its log."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "covey_operator"], env=environment, stdout=self._file, stderr=subprocess.STDOUT
        )

    def text(self) -> str:
        """Its log until now."""
        return self.log.read_text()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def port(self, limit_seconds: float = 30.0) -> int:
        """Where it says it serves metrics and health.

        Raises:
            NotReadyError: it has not said so in time, or has ended.
        """
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline and self.running:
            found = re.findall(r"metrics on port (\d+)", self.text())
            if found:
                return int(found[-1])  # who lost the Lease serves anew
            time.sleep(0.05)
        raise NotReadyError("the operator does not serve", "Read its log.", self.text()[-3000:])

    def exit_status(self, limit_seconds: float = 20.0) -> int:
        """Wait for its end."""
        return self._process.wait(limit_seconds)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def terminate(self) -> int:
        """Ask it to end, and wait; returns its exit status."""
        self._process.terminate()
        status = self.exit_status()
        self._file.close()
        return status

    def die(self) -> None:
        """As a power cut would; `kill` cleans up behind it."""
        self._process.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._file.close()

    def pause(self) -> None:
        """Stop it where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)


class Operators:
    """Starts operator processes against the API server, under the operator's ServiceAccount."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.kubeconfig = directory / "operator.kubeconfig"
        self.shared: OperatorProcess | None = None
        self._count = 0

    def prepare(self) -> None:
        """Namespace, ServiceAccount, rights and kubeconfig."""
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "covey-operator"}}
        subject = {"kind": "ServiceAccount", "name": "covey-operator", "namespace": OPERATOR_NAMESPACE}
        lease_role = {**role, "metadata": {"name": "covey-lease", "namespace": OPERATOR_NAMESPACE}}
        reference = {"apiGroup": "rbac.authorization.k8s.io"}
        objects: list[Object] = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "covey-operator", "namespace": OPERATOR_NAMESPACE},
            },
            {**role, "kind": "ClusterRole", "rules": RULES},
            {**lease_role, "kind": "Role", "rules": LEASE_RULES},
            {
                **role,
                "kind": "ClusterRoleBinding",
                "roleRef": {**reference, "kind": "ClusterRole", "name": "covey-operator"},
                "subjects": [subject],
            },
            {
                **lease_role,
                "kind": "RoleBinding",
                "roleRef": {**reference, "kind": "Role", "name": "covey-lease"},
                "subjects": [subject],
            },
        ]
        self.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
        token = self.server.kubectl("create", "token", "covey-operator", "-n", OPERATOR_NAMESPACE, "--duration=4h")
        content = yaml.safe_load(self.server.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": token.strip()}
        self.kubeconfig.write_text(yaml.safe_dump(content))

    def start(self, **settings: str) -> OperatorProcess:
        """Start one; it looks more often than usual, and without a Lease, unless `settings` say otherwise."""
        self._count += 1
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COVEY_OPERATOR")},
            "KUBECONFIG": str(self.kubeconfig),
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / part) for part in ("crds", "contracts", "operator")),
            "COVEY_NAMESPACE": OPERATOR_NAMESPACE,
            "COVEY_POD_NAME": f"operator-{self._count}",
            "COVEY_TRAINER_IMAGE": "registry.example/covey-trainer:test",
            "COVEY_METRICS_PORT": "0",
            "COVEY_LEADER_ELECTION": "false",
            "COVEY_CHAIN_POLL_SECONDS": "0.2",
            "COVEY_PROGRESS_POLL_SECONDS": "0.2",
            "COVEY_ERROR_RETRY_SECONDS": "2",
            "COVEY_RESYNC_SECONDS": "30",
            "COVEY_CLEANUP_SECONDS": "5",
            **settings,
        }
        return OperatorProcess(environment, self.directory / f"operator-{self._count}.log")
