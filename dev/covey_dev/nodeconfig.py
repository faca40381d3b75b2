"""Configuration files of one node, and the plan by which its process 1 starts the components."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from covey_dev import cgroups, golang, network, paths, pki, registry
from covey_dev.artifact import write_atomically, write_json
from covey_dev.controlplane import ControlPlane
from covey_dev.images import PAUSE
from covey_dev.node import program

POD_RANGE = "10.244.0.0/24"
DNS_ADDRESS = "10.96.0.10"
_USERS = {
    # file: (user, group, what the kubeconfig is for)
    "scheduler": ("system:kube-scheduler", "system:kube-scheduler"),
    "proxy": ("system:kube-proxy", "system:node-proxier"),
    "agent": ("covey:agent", "covey:agent"),
}


@dataclass(frozen=True)
class Node:
    """One cluster of one node.

    Attributes:
        name: of the cluster and of its node.
        index: 1 to 9, the last digit of its address.
        oldest: whether it runs the oldest Kubernetes that Covey supports, instead of the newest.
    """

    name: str
    index: int
    oldest: bool = False

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return network.node_address(self.index)

    @property
    def directory(self) -> Path:
        """All that it keeps."""
        return paths.state() / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.directory / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """Of its containerd; reachable from the host too."""
        return self.directory / "run/containerd.sock"

    @property
    def control_plane(self) -> ControlPlane:
        """Its control plane."""
        return ControlPlane(
            name=self.name,
            address=self.address,
            port=6443,
            etcd_port=2379,
            etcd_peer_port=2380,
            certificates=self.directory / "pki",
            etcd_data=self.directory / "etcd",
        )

    def write(self) -> None:
        """Write certificates (once) and configuration files (always, so that a new version of them takes effect)."""
        for name in ("conf/cni", "etcd", "kubelet", "log", "pod-logs", "run"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        plane = self.control_plane
        done = plane.certificates / "done"
        if not done.exists():
            authority = plane.write_certificates()
            authority.issue("kubelet", f"system:node:{self.name}", "system:nodes", [self.name, self.address])
            for file, (user, group) in _USERS.items():
                authority.issue(file, user, group)
            done.touch()
        pki.write_kubeconfig(self.kubeconfig, self.name, plane.server, plane.certificates, "admin")
        for file in ("controllers", "kubelet", *_USERS):
            local = f"https://127.0.0.1:{plane.port}"
            pki.write_kubeconfig(self._conf(f"{file}.kubeconfig"), self.name, local, plane.certificates, file)
        write_atomically(self._conf("resolv.conf"), f"nameserver {self.address}\n")
        write_atomically(self._conf("containerd.toml"), self._containerd())
        registry.write_hosts(self.directory / "containerd/certs.d")
        write_json(self._conf("cni/10-covey.conflist"), _CNI)
        write_atomically(self._conf("kubelet.yaml"), yaml.safe_dump(self._kubelet()))
        write_atomically(self._conf("proxy.yaml"), yaml.safe_dump(self._proxy()))
        write_json(self._conf("plan.json"), self.plan())

    def plan(self) -> dict[str, Any]:
        """What process 1 of the sandbox does."""
        plane = self.control_plane
        lean = {"GOGC": "60"}
        kubelet = [
            "kubelet",
            f"--config={self._conf('kubelet.yaml')}",
            f"--kubeconfig={self._conf('kubelet.kubeconfig')}",
            f"--hostname-override={self.name}",
            f"--root-dir={self.directory}/kubelet",
            f"--node-ip={self.address}",
        ]
        scheduler = [
            "kube-scheduler",
            f"--kubeconfig={self._conf('scheduler.kubeconfig')}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ]
        agent = [sys.executable, "-m", "covey_dev.agent", str(self._conf("agent.kubeconfig")), POD_RANGE]
        return {
            "name": self.name,
            "directory": str(self.directory),
            "shared": [str(hosts_directory())],
            "address": f"{self.address}/{network.PREFIX_LENGTH}",
            "gateway": network.HOST,
            "binaries": f"{golang.kube_oldest()}:{golang.kube()}" if self.oldest else str(golang.kube()),
            "apiserver": f"https://127.0.0.1:{plane.port}",
            "authority": str(plane.certificates / "ca.crt"),
            "programs": [
                program("containerd", ["containerd", "-c", str(self._conf("containerd.toml"))], needs_apiserver=False),
                program("etcd", plane.etcd(), lean, needs_apiserver=False),
                program("apiserver", plane.apiserver("0.0.0.0"), lean, needs_apiserver=False),  # noqa: S104
                program("controllers", plane.controllers(self._conf("controllers.kubeconfig")), lean),
                program("scheduler", scheduler, lean),
                program("agent", agent, {"PYTHONPATH": str(paths.DEV)}),
                program("kubelet", kubelet, lean),
                program("proxy", ["kube-proxy", f"--config={self._conf('proxy.yaml')}"], lean),
            ],
        }

    def _conf(self, name: str) -> Path:
        return self.directory / "conf" / name

    def _containerd(self) -> str:
        return f"""version = 2
root = "{self.directory}/containerd/root"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{self.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{self.directory}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  enable_unprivileged_ports = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  tolerate_missing_hugetlb_controller = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    discard_unpacked_layers = false

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self._conf("cni")}"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{self.directory}/containerd/certs.d"
"""

    def _kubelet(self) -> dict[str, Any]:
        certificates = self.control_plane.certificates
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "healthzBindAddress": "127.0.0.1",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups.name(self.name),
            **({} if self.oldest else {"failCgroupV1": False}),
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": f"unix://{self.containerd_socket}",
            "podLogsDir": f"{self.directory}/pod-logs",
            "volumePluginDir": f"{self.directory}/kubelet/volumeplugins",
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._conf("resolv.conf")),
            # Several clusters share one disk and one memory: pressure on the machine must not evict pods of all.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "10s",
            "syncFrequency": "10s",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{certificates}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{certificates}/kubelet.crt",
            "tlsPrivateKeyFile": f"{certificates}/kubelet.key",
        }

    def _proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "featureGates": {"NFTablesProxyMode": True} if self.oldest else {},  # stable since 1.33
            "clusterCIDR": POD_RANGE,
            "hostnameOverride": self.name,
            "clientConnection": {"kubeconfig": str(self._conf("proxy.kubeconfig"))},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # nf_conntrack_max belongs to the host and is read-only here.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }


def hosts_directory() -> Path:
    """Holds `hosts`, the names of all clusters' nodes, which every cluster's DNS serves."""
    return paths.state() / "hosts"


_CNI = {
    "cniVersion": "0.4.0",
    "name": "covey",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni-ipam",
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
