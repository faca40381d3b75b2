"""What makes pods in tests: the operator itself, or a stand-in for KubeRay that does to RayClusters what KubeRay does.

The stand-in follows reconcilePods, shouldDeletePod and calculateStatus of KubeRay 1.7; the API server, the definition
of RayCluster and its validation are the real ones.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from covey_dev.errors import CommandError
from covey_dev.process import until
from covey_operator.kinds import POD, RAY_CLUSTER, Kind, deleting, labels_of, name_of, owner_reference
from operator_pods import running

DEFINITION = Path(__file__).parents[4] / "shared/testdata/kuberay/ray.io_rayclusters.yaml"
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")


NEEDS_KUBERAY = pytest.mark.skipif(
    not DEFINITION.exists(), reason="the definition of RayCluster is not there: ../shared/testdata/kuberay"
)


def install_kuberay(server):
    """KubeRay's definition of RayCluster."""
    server.kubectl("apply", "--server-side", "-f", str(DEFINITION))

    def served():
        # `kubectl wait` and JSON paths end with an error while there is no condition at all.
        found = json.loads(server.kubectl("get", "crd", "rayclusters.ray.io", "-o", "json"))
        told = found.get("status", {}).get("conditions") or []
        return any((one["type"], one["status"]) == ("Established", "True") for one in told)

    until(served, "RayCluster is served", 30, "Look at the API server's log.")


def remove_kuberay(server):
    server.kubectl("delete", "crd", "rayclusters.ray.io", "--ignore-not-found", "--wait=true", "--timeout=60s")


class BarePods:
    """The operator makes the pods; the test plays the kubelet."""

    name = "Pods"

    async def reconcile(self, cluster, namespace, task):
        """Nobody else is needed."""

    async def pods(self, cluster, namespace, task, component):
        found = await cluster.kube.list_all(POD, namespace, f"covey.dev/task={task},covey.dev/component={component}")
        return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], name_of(pod)))

    async def head(self, cluster, namespace, task, other_than=None):
        """The head pod once there is one (with another uid)."""

        async def there():
            await self.reconcile(cluster, namespace, task)
            heads = await self.pods(cluster, namespace, task, "head")
            return next((pod for pod in heads if pod["metadata"]["uid"] != other_than and not deleting(pod)), None)

        return await cluster.until("a head pod", there)

    async def workers(self, cluster, namespace, task, count=2):
        """The worker pods once there are so many."""

        async def there():
            await self.reconcile(cluster, namespace, task)
            found = [pod for pod in await self.pods(cluster, namespace, task, "worker") if not deleting(pod)]
            return found if len(found) == count else None

        return await cluster.until(f"{count} workers", there)

    async def start(self, cluster, namespace, task, ip):
        """Play on until head and workers are ready; returns the head."""
        head = await self.head(cluster, namespace, task)
        cluster.set_pod_status(namespace, name_of(head), running(ip, ["ray-head", "validator"]))
        for pod in await self.workers(cluster, namespace, task):
            cluster.set_pod_status(namespace, name_of(pod), running("127.77.3.9", ["ray-worker"]))
        await self.reconcile(cluster, namespace, task)
        return await cluster.get(POD, namespace, name_of(head))

    async def no_pods(self, cluster, namespace, task):
        """Wait until every pod has gone."""

        async def gone():
            await self.reconcile(cluster, namespace, task)
            return not await cluster.kube.list_all(POD, namespace, f"covey.dev/task={task}")

        await cluster.until("no pods", gone)


class KubeRay(BarePods):
    """Does to a task's RayCluster what KubeRay would."""

    name = "KubeRay"

    async def reconcile(self, cluster, namespace, task):
        made = await cluster.get(RAY_CLUSTER, namespace, task)
        if made is None:
            return
        pods = [
            pod
            for pod in await cluster.kube.list_all(POD, namespace, f"ray.io/cluster={task}")
            if pod["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        ]
        spec = made["spec"]
        if spec.get("suspend"):
            for pod in pods:
                await cluster.kube.delete(pod)
            self._tell(cluster, made, {"RayClusterSuspending": bool(pods), "RayClusterSuspended": not pods}, pods)
            return
        for pod in pods:
            if self._has_ended(pod) and not deleting(pod):
                await cluster.kube.delete(pod)
        if not [pod for pod in pods if labels_of(pod)["ray.io/node-type"] == "head"]:
            self._create(cluster, made, "head", "headgroup", spec["headGroupSpec"]["template"])
        for group in spec.get("workerGroupSpecs", []):
            there = [pod for pod in pods if labels_of(pod)["ray.io/group"] == group["groupName"]]
            for _ in range(group["replicas"] - len(there)):
                self._create(cluster, made, "worker", group["groupName"], group["template"])
            for pod in there[group["replicas"] :]:
                await cluster.kube.delete(pod)
        try:
            self._tell(cluster, made, {"RayClusterSuspending": False, "RayClusterSuspended": False}, pods)
        except CommandError as error:
            if "NotFound" not in error.log:  # the operator may have deleted it meanwhile
                raise

    @staticmethod
    def _has_ended(pod):
        status = pod.get("status") or {}
        ray = pod["spec"]["containers"][0]["name"]
        over = [one["state"].get("terminated") for one in status.get("containerStatuses", []) if one["name"] == ray]
        return status.get("phase") in ("Failed", "Succeeded") or any(over)

    @staticmethod
    def _create(cluster, made, node_type, group, template):
        metadata = template["metadata"]
        labels = {
            "ray.io/is-ray-node": "yes",
            "app.kubernetes.io/name": "kuberay",
            **metadata["labels"],
            "ray.io/cluster": name_of(made),
            "ray.io/node-type": node_type,
            "ray.io/group": group,
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **metadata,
                "labels": labels,
                "generateName": f"{name_of(made)}-{node_type}-",
                "namespace": made["metadata"]["namespace"],
                "ownerReferences": [owner_reference(made)],
            },
            "spec": template["spec"],
        }
        cluster.server.kubectl("create", "-f", "-", stdin=yaml.safe_dump(pod))

    @staticmethod
    def _tell(cluster, made, conditions, pods):
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        suspended = conditions["RayClusterSuspended"]
        told = {
            "state": "suspended" if suspended else "ready",
            "observedGeneration": made["metadata"]["generation"],
            "desiredWorkerReplicas": sum(group["replicas"] for group in made["spec"].get("workerGroupSpecs", [])),
            "desiredCPU": "3",
            "lastUpdateTime": now,
            "conditions": [
                {"type": kind, "status": str(status), "reason": kind, "message": "", "lastTransitionTime": now}
                for kind, status in {**conditions, "RayClusterProvisioned": bool(pods) and not suspended}.items()
            ],
        }
        set_status(cluster, made["metadata"]["namespace"], name_of(made), told)


def set_status(cluster, namespace, name, status):
    """Write RayCluster.status through its subresource, as KubeRay does."""
    patch = json.dumps({"status": status})
    command = ("patch", "rayclusters", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    cluster.server.kubectl(*command)


BACKENDS = {one.name: one for one in (BarePods(), KubeRay())}
BOTH = pytest.mark.parametrize("backend", ["Pods", pytest.param("KubeRay", marks=NEEDS_KUBERAY)], indirect=True)
