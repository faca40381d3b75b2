"""Command lines of etcd, the API server and the controllers, shared by whole clusters and by bare API servers."""

from dataclasses import dataclass
from pathlib import Path

from covey_dev import pki

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
_NEED_NODES = ("endpoints-controller", "endpointslice-controller", "persistentvolume-binder-controller")
_ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class ControlPlane:
    """One control plane: where its files lie and where it listens.

    Attributes:
        name: cluster name.
        address: IP address that the API server answers to and announces.
        port: of the API server.
        etcd_port, etcd_peer_port: of etcd, always on loopback.
        certificates: directory of the certificates.
        etcd_data: directory of etcd's data.
        announces: whether the API server publishes its address as the service `kubernetes`; it cannot on loopback.
        audit_log: file for one JSON line per request (level Metadata), or None.
        audit_policy: the audit policy file; needed with `audit_log`.
    """

    name: str
    address: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    certificates: Path
    etcd_data: Path
    announces: bool = True
    audit_log: Path | None = None
    audit_policy: Path | None = None

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.port}"

    def write_certificates(self) -> pki.Authority:
        """Make the authority and every certificate of the control plane, and the administrator's."""
        authority = pki.Authority.create(self.certificates, self.name)
        suffixes = ("", ".default", ".default.svc", ".default.svc.cluster.local")
        service_names = [f"kubernetes{suffix}" for suffix in suffixes]
        authority.issue(
            "apiserver",
            "kube-apiserver",
            "kubernetes",
            [*service_names, "localhost", *dict.fromkeys(["127.0.0.1", SERVICE_ADDRESS, self.address])],
        )
        authority.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "covey:kubelet-client")
        authority.issue("front-proxy", "front-proxy-client", "covey:front-proxy")
        authority.issue("controllers", "system:kube-controller-manager", "system:kube-controller-manager")
        authority.issue("admin", "admin", "system:masters")
        pki.write_service_account_key(self.certificates)
        return authority

    def etcd(self) -> list[str]:
        """Etcd without fsync: losing a test cluster in a power cut is fine, waiting for the disk is not."""
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        return [
            "etcd",
            f"--name={self.name}",
            f"--data-dir={self.etcd_data}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.name}={peer}",
            "--log-level=warn",
        ]

    def apiserver(self, bind_address: str) -> list[str]:
        """kube-apiserver with RBAC, node authorization, aggregation and admission as kubeadm sets them."""
        files = self.certificates
        command = [
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--bind-address={bind_address}",
            f"--secure-port={self.port}",
            f"--advertise-address={self.address}",
            f"--tls-cert-file={files}/apiserver.crt",
            f"--tls-private-key-file={files}/apiserver.key",
            f"--client-ca-file={files}/ca.crt",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={files}/sa.pub",
            f"--service-account-signing-key-file={files}/sa.key",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--kubelet-client-certificate={files}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={files}/apiserver-kubelet-client.key",
            f"--kubelet-certificate-authority={files}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={files}/ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={files}/front-proxy.crt",
            f"--proxy-client-key-file={files}/front-proxy.key",
        ]
        if not self.announces:
            command.append("--endpoint-reconciler-type=none")
        if self.audit_log and self.audit_policy:
            command += [f"--audit-log-path={self.audit_log}", f"--audit-policy-file={self.audit_policy}"]
            command.append("--audit-log-maxsize=10240")  # MiB: a log that rotates in the middle of a test loses events
        return command

    def controllers(self, kubeconfig: Path, port: int = 10257, nodes: bool = True) -> list[str]:
        """kube-controller-manager: garbage collection, namespaces, service accounts, volumes, workloads.

        Without nodes also without what would try for ever: no claim is bound there, and no pod has an address.
        """
        running = "*" if nodes else ",".join(("*", *(f"-{name}" for name in _NEED_NODES)))
        return [
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={self.certificates}/sa.key",
            f"--root-ca-file={self.certificates}/ca.crt",
            f"--cluster-signing-cert-file={self.certificates}/ca.crt",
            f"--cluster-signing-key-file={self.certificates}/ca.key",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            f"--controllers={running}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
        ]
