"""Programs built from Go modules: Kubernetes (newest and oldest that Covey supports), Helm, promtool and others."""

from collections.abc import Sequence
from pathlib import Path

from covey_dev import artifact, paths
from covey_dev.process import run

KUBERNETES_VERSION = "1.36.3"
# The oldest that the chart's kubeVersion lets in.
OLDEST_KUBERNETES_VERSION = "1.30.14"
HELM_VERSION = "4.2.4"  # as in dev/kube/go.mod; the last with the client library of this Kubernetes
KUBECONFORM_VERSION = "0.8.0"
KIND_VERSION = "0.33.0"
GETH_VERSION = "1.16.7"
MINISIGN_VERSION = "0.3.0"
SYFT_VERSION = "1.57.1"
OLDEST_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")
COMPONENTS = ("coredns", "etcd", "kubectl", *OLDEST_COMPONENTS)
_SOURCE = paths.DEV / "kube"
_OLDEST_SOURCE = paths.DEV / "kube-oldest"
_PROMTOOL = paths.DEV / "promtool"
_GO_REMEDY = "Install Go 1.26 or newer, and check that its module proxy can be reached (`go env GOPROXY`)."


def kube() -> Path:
    """Build (once) Kubernetes, etcd, CoreDNS and kubectl; the directory holds one link per component, and `pause`."""

    def build(fresh: Path) -> None:
        _build_kubernetes(fresh, _SOURCE, KUBERNETES_VERSION, COMPONENTS)
        _go("build", "-ldflags=-s -w", "-o", fresh / "pause", "./pause", directory=_SOURCE)

    key = artifact.digest(_SOURCE, KUBERNETES_VERSION, *COMPONENTS)
    what = f"Kubernetes {KUBERNETES_VERSION} from source (first time: 5 to 8 minutes on 2 cores)"
    return artifact.ensure(paths.tools() / f"kube-{key[:12]}", key, what, build)


def kube_oldest() -> Path:
    """Build (once) the oldest supported Kubernetes, one link per component; etcd, CoreDNS, kubectl are the newest."""

    def build(fresh: Path) -> None:
        _build_kubernetes(fresh, _OLDEST_SOURCE, OLDEST_KUBERNETES_VERSION, OLDEST_COMPONENTS)

    key = artifact.digest(_OLDEST_SOURCE, OLDEST_KUBERNETES_VERSION, *OLDEST_COMPONENTS)
    what = f"Kubernetes {OLDEST_KUBERNETES_VERSION} from source (first time: 5 to 6 minutes on 2 cores)"
    return artifact.ensure(paths.tools() / f"kube-oldest-{key[:12]}", key, what, build)


def helm() -> Path:
    """Build (once) Helm; returns the program.

    In the module of Kubernetes, of which it needs a good part: 20 seconds after that instead of two minutes and more.
    """
    package = "helm.sh/helm/v4/cmd/helm"
    stamp = f"-X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}"

    def build(fresh: Path) -> None:
        _go("build", f"-ldflags=-s -w {stamp}", "-o", fresh / "helm", package, directory=_SOURCE)

    key = artifact.digest(_SOURCE, HELM_VERSION)
    what = f"helm {HELM_VERSION} from source"
    return artifact.ensure(paths.tools() / f"helm-{key[:12]}", key, what, build) / "helm"


def kubeconform() -> Path:
    """Build (once) kubeconform, which checks manifests against JSON schemas; returns the program."""
    return _install("github.com/yannh/kubeconform/cmd/kubeconform", KUBECONFORM_VERSION)


def promtool() -> Path:
    """Build (once) Prometheus' tool that runs rules over series; returns the program.

    From a module of its own, whose go.mod pins it: that of Prometheus has `replace` lines, which `go install` refuses.
    """
    package = "github.com/prometheus/prometheus/cmd/promtool"

    def build(fresh: Path) -> None:
        # The tag leaves out the discovery of targets in clouds, and with it their SDKs.
        _go("build", "-ldflags=-s -w", "-tags=remove_all_sd", "-o", fresh / "promtool", package, directory=_PROMTOOL)

    key = artifact.digest(_PROMTOOL)
    what = "promtool from source"
    return artifact.ensure(paths.tools() / f"promtool-{key[:12]}", key, what, build) / "promtool"


def kind() -> Path:
    """Build (once) kind, which pins its node image, and with it the version of Kubernetes, itself."""
    return _install("sigs.k8s.io/kind", KIND_VERSION)


def geth() -> Path:
    """Build (once) go-ethereum's node, a second implementation beside anvil; returns the program."""
    return _install("github.com/ethereum/go-ethereum/cmd/geth", GETH_VERSION)


def minisign() -> Path:
    """Build (once) minisign, which signs releases; returns the program."""
    return _install("aead.dev/minisign/cmd/minisign", MINISIGN_VERSION)


def syft() -> Path:
    """Build (once) syft, which lists what is in an image; returns the program."""
    return _install("github.com/anchore/syft/cmd/syft", SYFT_VERSION)


def _install(package: str, version: str) -> Path:
    name = package.rpartition("/")[2]

    def build(fresh: Path) -> None:
        _go("install", "-ldflags=-s -w", f"{package}@v{version}", bin_directory=fresh)

    key = artifact.digest(package, version)
    return artifact.ensure(paths.tools() / f"{name}-{version}", key, f"{name} {version} from source", build) / name


def _build_kubernetes(fresh: Path, source: Path, version: str, components: Sequence[str]) -> None:
    major, minor, _ = version.split(".")
    variables = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    # Without a version kubectl and the scheduler refuse to talk to the server.
    stamps = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())
    _go("build", f"-ldflags=-s -w {stamps}", "-o", fresh / "kube", ".", directory=source)
    for component in components:
        (fresh / component).symlink_to("kube")


def _go(command: str, *arguments: str | Path, directory: Path | None = None, bin_directory: Path | None = None) -> None:
    env = {"CGO_ENABLED": "0"} | ({"GOBIN": str(bin_directory)} if bin_directory else {})
    run("go", command, "-trimpath", *arguments, cwd=directory, env=env, remedy=_GO_REMEDY)
